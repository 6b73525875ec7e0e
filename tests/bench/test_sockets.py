"""A run listens on this machine alone: each of its processes, socket by socket."""

from __future__ import annotations

import ipaddress
import time

import psutil
import pytest

from tests.bench.long_run import running

#: Parts of the command lines of Ray's processes that must be among those looked at, or the test has seen nothing.
PARTS = ("gcs_server", "raylet", "dashboard.py", "dashboard/agent.py", "ray::")


def listening(process: psutil.Process) -> list[tuple[str, int, str]]:
    """(address, port, command) of every listening socket of a process and of all that it began."""
    found = []
    for one in (process, *process.children(recursive=True)):
        try:
            name = " ".join(one.cmdline())
            sockets = one.net_connections(kind="inet")
        except psutil.NoSuchProcess:
            continue
        found += [(s.laddr.ip, s.laddr.port, name) for s in sockets if s.status == psutil.CONN_LISTEN]
    return found


def loopback(text: str) -> bool:
    """127.0.0.1 also as a socket of both families has it, `::ffff:127.0.0.1`."""
    address = ipaddress.ip_address(text)
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_run_listens_on_this_machine_alone(tiny_msd, tmp_path, workers):
    with running(tiny_msd, tmp_path / "run", "--workers-per-trial", workers) as process:
        time.sleep(3)  # the agents come up while trials run already
        commands = [" ".join(one.cmdline()) for one in process.children(recursive=True)]
        sockets = listening(process)
    for part in (*PARTS, *["TrainWorker"] * (workers == "2")):
        assert any(part in text for text in commands), (part, commands)
    assert not [text for text in commands if "monitor.py" in text], "Ray's monitors have no use here"
    assert len(sockets) >= 8
    elsewhere = [one for one in sockets if not loopback(one[0])]
    assert elsewhere == []
