"""How the workers of one trial find each other, without a port that listens on other addresses than their node's.

torch's own rendezvous (`env://`) opens a store on all addresses of the machine, whatever address it is told. A socket
that is bound already keeps it to one: `master_listen_fd` of `torch.distributed.TCPStore`.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import ray
import torch.distributed as dist
from ray.train.torch import TorchConfig
from ray.train.torch.config import _set_torch_distributed_env_vars, _TorchBackend

#: The store of the group, kept in the process of rank 0 for as long as the group lasts.
_HELD: list[dist.TCPStore] = []


@dataclass
class NodeTorchConfig(TorchConfig):
    """TorchConfig whose store listens on the address of rank 0's node: 127.0.0.1 where Ray is on this machine alone."""

    @property
    def backend_cls(self) -> type[_TorchBackend]:
        return _NodeBackend


class _NodeBackend(_TorchBackend):
    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        timeout = timedelta(seconds=backend_config.timeout_s)
        size = len(worker_group)
        address = worker_group.execute_single(0, _open_store, size, timeout)
        worker_group.execute(_set_torch_distributed_env_vars)
        joining = [
            worker_group.execute_single_async(rank, _join, backend_config.backend, address, rank, size, timeout)
            for rank in range(size)
        ]
        ray.get(joining)


def _open_store(size: int, timeout: timedelta) -> tuple[str, int]:
    """On rank 0: the address at which the others find it."""
    host = ray.util.get_node_ip_address()
    listening = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    port = listening.getsockname()[1]
    _HELD[:] = [
        dist.TCPStore(
            host, port, size, is_master=True, timeout=timeout, wait_for_workers=False,
            master_listen_fd=listening.detach(),
        )
    ]  # fmt: skip
    return host, port


def _join(backend: str, address: tuple[str, int], rank: int, size: int, timeout: timedelta) -> None:
    store = _HELD[0] if rank == 0 else dist.TCPStore(*address, size, is_master=False, timeout=timeout)
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)
