"""Checkpoints of a trial's training on disk: whole or not there, checked by their hash, and never unpickled.

    checkpoints/<task>/<arm>/<seed>-<fold>-<digest>/<setup>/step-00000120/
      shared.<sha256>.safetensors    what all workers have alike, written by the first
      rank-0.<sha256>.safetensors    what is a worker's own: its random states, its part of the optimizer under ZeRO

Each file holds tensors and, as JSON in its header, everything else. The last two checkpoints are kept, so that one that
was damaged has one before it. A setup (number of workers, ZeRO stage, device, versions) has a folder of its own:
another setup would not end with the same numbers, and cuts the optimizer up in other parts.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from bench import tensor_file
from bench.engine import agreed, anywhere
from bench.leftovers import FOLDER
from results.record import TrialSpec, digest_of
from results.store import atomic_write, key_path, sync_folder

KEPT = 2
#: Raised when what is in a checkpoint changes: one of another form is not taken up.
FORM = 1
_SETUP = "setup.json"

#: Nested dicts and lists of JSON values and tensors.
State = dict[str, Any]
Say = Callable[[str], None]


class Unusable(ValueError):
    """A checkpoint that cannot be taken up; the message names the file."""


@dataclass(frozen=True)
class Taken:
    """A checkpoint that was read."""

    step: int
    shared: State
    own: State


class Checkpoints:
    """The checkpoints of one trial and one setup, as one of its ranks sees them. All ranks call the same methods."""

    def __init__(self, run: Path, spec: TrialSpec, setup: dict[str, Any], rank: int = 0) -> None:
        self.setup = setup | {"form": FORM}
        self.trial = key_path(Path(run) / FOLDER, spec.key)
        self.folder = self.trial / digest_of(self.setup)
        self.rank = rank

    def save(self, step: int, shared: State, own: State) -> int:
        """Store a checkpoint and drop the oldest beyond KEPT; returns the bytes that this rank wrote.

        shared is written by rank 0 alone. OSError on every rank if one of them could not write; the checkpoint is then
        not there, and those before it are untouched.
        """
        draft, size = self.folder / f".step-{step:08d}.draft", 0

        def parts() -> None:
            nonlocal size
            if self.rank == 0:
                atomic_write(self.folder / _SETUP, json.dumps(self.setup, indent=1).encode())
                size += _write(draft, "shared", shared)
            size += _write(draft, f"rank-{self.rank}", own)

        try:
            _together(parts)
            _together(lambda: self._commit(draft, step) if self.rank == 0 else None)
        except OSError:
            if self.rank == 0:
                shutil.rmtree(draft, ignore_errors=True)
            raise
        return size

    def latest(self, say: Say) -> Taken | None:
        """The newest checkpoint that every rank can read; one that is damaged is told to say, and removed."""
        if self.rank == 0:
            _drop(self.folder.glob(".step-*.draft"))
        steps = sorted(_steps(self.folder))
        while (step := int(agreed(steps.pop() if steps and self.rank == 0 else -1))) >= 0:
            taken = None
            try:
                taken = self._read(step)
            except Unusable as error:
                say(f"{error}; the checkpoint before it is used, or training starts anew")
            (missing,) = anywhere(taken is None)
            if not missing:
                return taken
            if self.rank == 0:
                _drop([self._place(step)])
        if self.rank == 0:
            self._tell_others(say)
        return None

    def _place(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"

    def _commit(self, draft: Path, step: int) -> None:
        sync_folder(draft)
        _drop([self._place(step)])
        os.rename(draft, self._place(step))
        sync_folder(self.folder)
        _drop(self._place(old) for old in sorted(_steps(self.folder))[:-KEPT])

    def _read(self, step: int) -> Taken:
        place = self._place(step)
        return Taken(step, _read(place, "shared"), _read(place, f"rank-{self.rank}"))

    def _tell_others(self, say: Say) -> None:
        for path in sorted(self.trial.glob(f"*/{_SETUP}")):
            steps = sorted(_steps(path.parent))
            if path.parent == self.folder or not steps:
                continue
            try:
                other = json.loads(path.read_text())
            except (OSError, ValueError) as error:
                say(f"{path}: cannot be read ({error}); the checkpoints beside it are not used")
                continue
            differs = [f"{name} {other.get(name)}" for name in self.setup if other.get(name) != self.setup[name]]
            say(f"{path.parent}: the checkpoint of step {steps[-1]} was made with {', '.join(differs)}; starts anew")


def _write(folder: Path, name: str, state: State) -> int:
    tensors: dict[str, Tensor] = {}
    text = json.dumps(_split(state, tensors, ""))
    draft = folder / f"{name}.part"
    sha256 = tensor_file.write(draft, tensors, {"state": text})
    path = folder / f"{name}.{sha256}.safetensors"
    os.rename(draft, path)
    return path.stat().st_size


def _read(folder: Path, name: str) -> State:
    paths = list(folder.glob(f"{name}.*.safetensors"))
    if len(paths) != 1:
        raise Unusable(f"{folder / name}: {len(paths)} files where there should be one")
    try:
        if tensor_file.sha256_of(paths[0]) != paths[0].name.split(".")[1]:
            raise Unusable(f"{paths[0]}: is damaged (its content is not what its name says)")
        with safe_open(paths[0], "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return _joined(json.loads(file.metadata()["state"]), tensors)
    except (OSError, SafetensorError) as error:
        raise Unusable(f"{paths[0]}: cannot be read ({error})") from error


def _split(value: Any, tensors: dict[str, Tensor], name: str) -> Any:
    """The value with each tensor put into tensors and its name in its place."""
    if isinstance(value, Tensor):
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, dict):
        return {key: _split(item, tensors, f"{name}/{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_split(item, tensors, f"{name}/{place}") for place, item in enumerate(value)]
    return value


def _joined(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, dict):
        if set(value) == {"tensor"}:
            return tensors[value["tensor"]]
        return {key: _joined(item, tensors) for key, item in value.items()}
    return [_joined(item, tensors) for item in value] if isinstance(value, list) else value


def _steps(folder: Path) -> Iterator[int]:
    return (int(path.name[5:]) for path in folder.glob("step-*") if path.name[5:].isdecimal())


def _together(work: Callable[[], None]) -> None:
    """Do one's part; OSError on every rank if one of them could not: they go on alike, or they wait for ever."""
    problem = None
    try:
        work()
    except OSError as error:
        problem = error
    (failed,) = anywhere(problem is not None)
    if failed:
        raise problem or OSError("another worker could not write its part")


def _drop(folders: Iterable[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
