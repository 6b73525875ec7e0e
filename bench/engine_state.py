"""What a DeepSpeed engine has learned, taken out of it and put back: trainable weights, buffers, optimizer, loss scale.

Frozen weights are left out: they are found again by their hash, or drawn again from the seed. At ZeRO stage 0 all ranks
hold the same; from stage 1 on each rank has its own part of the optimizer, at stage 3 also of the weights.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

#: Where a ZeRO optimizer's `state_dict` has the inner optimizer's state, and the flat fp32 weights that it steps on.
_ZERO = {
    1: ("base_optimizer_state", "single_partition_of_fp32_groups"),
    2: ("base_optimizer_state", "single_partition_of_fp32_groups"),
    3: ("optimizer_state_dict", "fp32_flat_groups"),
}


def read(engine: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """(what all ranks have alike, what is this rank's own), as JSON values and tensors."""
    stage = engine.zero_optimization_stage()
    shared = {"tensors": {name: tensor.detach() for name, tensor in _learned(engine.module).items()}}
    scale = _loss_scale(engine)
    if stage == 0:
        return shared | {"moments": _moments(engine.optimizer.state_dict())}, scale
    inner, flat = _ZERO[stage]
    state = engine.optimizer.state_dict()
    return shared, scale | {"moments": _moments(state[inner]), "flat": [part.detach() for part in state[flat]]}


def restore(engine: Any, shared: dict[str, Any], own: dict[str, Any]) -> None:
    """Put back what `read` gave into an engine started alike. In place: ZeRO's weights are views of a buffer."""
    stage = engine.zero_optimization_stage()
    with torch.no_grad():
        for name, tensor in _learned(engine.module).items():
            tensor.copy_(shared["tensors"][name])
    _set_loss_scale(engine, own)
    state = engine.optimizer.state_dict()
    if stage == 0:
        engine.optimizer.load_state_dict(state | {"state": _by_number(shared["moments"])})
        return
    inner, flat = _ZERO[stage]
    state |= {inner: state[inner] | {"state": _by_number(own["moments"])}, flat: own["flat"]}
    everyone = [state] * torch.distributed.get_world_size()  # a rank reads its own place alone
    engine.optimizer.load_state_dict(everyone, load_from_fp32_weights=True)
    if stage == 3:
        engine.optimizer.checkpoint_event_epilogue()


def _learned(module: nn.Module) -> dict[str, Tensor]:
    """Trainable parameters and stored buffers, each once. The parameters that stage 3 cut up are in `flat`."""
    parameters = dict(module.named_parameters(remove_duplicate=False))
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad and not hasattr(p, "ds_id")}
    state = module.state_dict(keep_vars=True)
    return trained | {name: tensor for name, tensor in state.items() if name not in parameters}


def _moments(state: dict[str, Any]) -> dict[str, Any]:
    return {str(number): values for number, values in state["state"].items()}


def _by_number(moments: dict[str, Any]) -> dict[int, Any]:
    return {int(number): values for number, values in moments.items()}


def _loss_scale(engine: Any) -> dict[str, Any]:
    """The state of fp16's loss scaling, where there is any: DeepSpeed's own scaler, or that of torch's autocast."""
    found = {}
    if scaler := getattr(engine.optimizer, "loss_scaler", None):
        found["scaler"] = {name: value for name, value in vars(scaler).items() if type(value) in (bool, int, float)}
    if scaler := getattr(engine, "torch_autocast_z0_gradscaler", None):
        found["autocast_scaler"] = scaler.state_dict()
    return found


def _set_loss_scale(engine: Any, own: dict[str, Any]) -> None:
    if "scaler" in own:
        vars(engine.optimizer.loss_scaler).update(own["scaler"])
    if "autocast_scaler" in own:
        engine.torch_autocast_z0_gradscaler.load_state_dict(own["autocast_scaler"])
