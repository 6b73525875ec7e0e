"""A search, made of what the user asked for: its ground, its space, its inner split, and the trial of each sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from backbones import weights
from backbones.request import Backbone, Request, resolve
from backbones.request import parse as parse_backbones
from bench import plan, preflight
from bench.data.cases import Case
from bench.data.splits import SEED, Split
from bench.settings import train_settings
from bench.study import StudyError, StudySpec, full_path
from bench.trial import TrialJob
from bench.tuning.inner import inner_split, training_side
from bench.tuning.space import KINDS, Dimension, Space, Values, default_space, overlaid, parse, with_layers
from results.record import METHOD

METHODS = ("asha", "random", "optuna")
#: Samples are compared at the whole budget, a third of it, a ninth, …: successive halving's usual factor.
ETA = 3


@dataclass(frozen=True)
class Wish:
    """What is asked of a search beside its study: dimensions as `--search` has them, how many samples, and how.

    rungs is at how many places of the training a sample is scored, 0 for the method's own: 3, or only the end.
    """

    dimensions: tuple[str, ...] = ()
    samples: int = 20
    method: str = "asha"
    rungs: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise StudyError(f"--method: unknown method {self.method!r}; available: {', '.join(METHODS)}")
        if self.samples < 1:
            raise StudyError(f"--samples: {self.samples} is below 1")
        if self.rungs < 0:
            raise StudyError(f"--rungs: {self.rungs} is below 1")
        if self.method == "asha" and self.rungs == 1:
            raise StudyError("--rungs 1: asha stops at the rungs before the last; use 2 or more, or --method random")

    @property
    def shares(self) -> tuple[float, ...]:
        """The rungs as shares of the budget, the whole last."""
        rungs = self.rungs or (3 if self.method == "asha" else 1)
        return tuple(ETA**-power for power in reversed(range(rungs)))


@dataclass(frozen=True)
class Search:
    """All that decides a sample's numbers; it goes to every worker. The ground knows the training cases alone.

    study is of one fold, fraction and seed, and names every layer of the space; what is searched takes the place of
    what it says. control is the arm that is trained.
    """

    study: StudySpec
    ground: preflight.Ground
    space: Space
    shares: tuple[float, ...]
    split: Split
    task: str
    control: str

    def job(self, values: Values) -> TrialJob:
        """The trial that a sample is, on the inner split."""
        inner = replace(_narrowed(self.study), settings=overlaid(self.study.settings, values))
        jobs = [job for job in plan.expand(inner, self.ground) if job.spec.control == self.control]
        return next(job for job in jobs if values.get("layer", job.spec.layer) == job.spec.layer)

    @property
    def jobs(self) -> list[TrialJob]:
        """A trial of each layer: together they need what any sample needs."""
        layers = _dimension(self.space, "layer")
        return [self.job(self.example | {"layer": layer}) for layer in layers.values] if layers else [self.first]

    @property
    def first(self) -> TrialJob:
        """The trial of one choice of values."""
        return self.job(self.example)

    def sides(self) -> tuple[list[Case], list[Case]]:
        """The inner training and the inner validation cases."""
        by_id = {case.id: case for case in self.ground.folders[self.task].cases}
        return [by_id[i] for i in self.split.train], [by_id[i] for i in self.split.held_out]

    @property
    def arm(self) -> str:
        """The name of the backbone, or `none`."""
        return next(arm.name for arm in self.ground.arms if arm.control == self.control)

    @property
    def example(self) -> dict[str, Any]:
        """One choice of values."""
        return {dimension.name: dimension.edges[0] for dimension in self.space}

    def identity(self, method: str) -> dict[str, Any]:
        """What may not change within one folder; how many samples are drawn may."""
        searched = {(KINDS[dimension.name].group, KINDS[dimension.name].setting) for dimension in self.space}
        groups = self.study.resolved().items()
        fixed = {f"{g}.{n}": v for g, items in groups for n, v in items.items() if (g, n) not in searched}
        return {
            "task": self.task,
            "fold": self.study.folds[0],
            "fraction": self.study.fractions[0],
            "seed": self.study.seeds[0],
            "arm": self.arm,
            "control": self.control,
            "weights": self._hashes(),
            "method": method,
            "search": [dimension.text for dimension in self.space],
            "rungs": list(self.shares),
            "inner": asdict(self.split) | {"seed": SEED},
            "training_data": self.first.spec.data_digest,
            "version": METHOD,
        } | fixed

    def _hashes(self) -> dict[str, str]:
        """Layer -> the hash of its block, that of a second place too."""
        arms = [arm for arm in self.ground.arms if arm.control == self.control]
        read = {str(arm.layer): arm.weights.sha256 for arm in arms}
        return read | {str(arm.second.layer): arm.second.sha256 for arm in arms if arm.second}


def _narrowed(study: StudySpec) -> StudySpec:
    """The study on the training cases of its fold as if there were no others: their own first fold splits them."""
    return replace(study, folds=(0,), fractions=(1.0,))


def make_search(study: StudySpec, wish: Wish, say: Callable[[str], None]) -> Search:
    """Look at everything that can fail before anything is trained; StudyError, one line a problem."""
    fold, fraction = _only(study)
    if study.data is not None:
        study = replace(study, data=str(full_path(Path(study.data))))  # workers stand in another folder
    (request,) = parse_backbones(study.backbones)
    space = _space(request, wish, study)
    study = replace(study, controls=("lora",) if _has(space, "lora_rank") else ("none",), references=(), variants={})
    study = replace(study, backbones=(_with_layers(request, space),))
    _check_values(study, space)
    _check_rungs(study, wish)
    narrow = training_side(fold, fraction)
    ground = preflight.check(_narrowed(study), say, narrow)
    ((task, folder),) = ground.folders.items()
    control = _control(ground, request, space)
    return Search(study, ground, space, wish.shares, inner_split(folder), task, control)


def _only(study: StudySpec) -> tuple[int, float]:
    """Its fold and fraction. A search is also of one backbone, task and seed, and one worker trains a sample."""
    if study.folds == "all":
        raise StudyError("--folds all: a search tunes one fold; name it, such as --folds 0")
    given = {"folds": study.folds, "fraction": study.fractions, "seeds": study.seeds}
    for name, values in given.items():
        if len(values) > 1:
            raise StudyError(f"--{name} {','.join(map(str, values))}: a search is of one; run it again for another")
    if len(study.tasks) != 1:
        told = ",".join(study.tasks) or "left out"
        raise StudyError(f"--tasks {told}: a search is of one task; name it, such as --tasks Task09_Spleen")
    if len(parse_backbones(study.backbones)) != 1:
        raise StudyError(
            f"--backbones {','.join(study.backbones)}: a search is of one; run it again for another, and with "
            "`--backbones none` for the baseline"
        )
    for name, values in study.variants.items():
        raise StudyError(
            f"--{name.replace('_', '-')} {','.join(map(str, values))}: a search takes several values by "
            f"--search {name}=…; leave them out here"
        )
    if study.workers_per_trial > 1:
        raise StudyError(f"--workers-per-trial {study.workers_per_trial}: one worker trains a sample; leave it out")
    if train_settings(study.resolved()["train"]).seconds:
        raise StudyError(
            "--budget: samples are compared at equal steps, and scoring them takes time too; give steps or epochs"
        )
    return study.folds[0], study.fractions[0]


def _space(request: Request, wish: Wish, study: StudySpec) -> Space:
    """The dimensions that are named, or the usual ones; several layers in the backbone's name are searched, too."""
    space = parse(wish.dimensions)
    if request.what == "none":
        for dimension in space:
            if KINDS[dimension.name].of_block:
                raise StudyError(f"--search {dimension.text}: the baseline has no block; use --backbones NAME")
        return space or default_space(has_block=False)
    found, layers = resolve(request), _dimension(space, "layer")
    if layers and request.layers:
        raise StudyError(
            f"--backbones {request.text} and --search {layers.text}: both name layers; leave one of them out"
        )
    space = space or with_layers(default_space(), _layers_here(found, study))
    return with_layers(space, found.layers) if request.layers else space


def _layers_here(found: Backbone, study: StudySpec) -> tuple[int, ...]:
    """Those whose blocks are in the cache, where it is the cache that they are read from."""
    if found.source or {found.spec.name, "*"} & set(study.weights):
        return ()
    return tuple(layer for layer in range(found.spec.layers) if weights.find(found.spec, layer))


def _with_layers(request: Request, space: Space) -> str:
    """The backbone with the layers of the space; StudyError for one that it does not have."""
    layers = _dimension(space, "layer")
    if layers is None:
        return request.text
    spec = resolve(replace(request, layers=(), own=False)).spec
    if wrong := [layer for layer in layers.values if not 0 <= layer < spec.layers]:
        raise StudyError(f"--search {layers.text}: {spec.name!r} has layers 0 to {spec.layers - 1}, not {wrong[0]}")
    return Request(request.what, tuple(sorted(layers.values))).text


def _check_values(study: StudySpec, space: Space) -> None:
    """Each value by itself, as the preset takes it."""
    for dimension in space:
        for value in dimension.edges:
            try:
                replace(study, settings=overlaid(study.settings, {dimension.name: value}))
            except StudyError as error:
                raise StudyError(f"--search {dimension.text}: {error}") from error


def _check_rungs(study: StudySpec, wish: Wish) -> None:
    """A sample is scored at the end of an entry of its curve: more rungs than differ there would be none."""
    train, most = study.resolved()["train"], 1
    epochs = min(train["epochs"], train["steps"] or train["epochs"])
    while -(-epochs // ETA**most) < -(-epochs // ETA ** (most - 1)):
        most += 1
    if wish.rungs > most:
        raise StudyError(
            f"--rungs {wish.rungs}: a training of {epochs} epochs (train.epochs, train.steps) has at most {most} such "
            f"places; use {most} or fewer, or a longer training"
        )


def _control(ground: preflight.Ground, request: Request, space: Space) -> str:
    """The arm that is trained: the block with a LoRA where its rank is searched, else the block itself."""
    if request.what == "none":
        return "none"
    if _has(space, "lora_rank"):
        return "lora"
    arm = next(arm for arm in ground.arms if arm.control in ("pretrained", "stand-in", "random"))
    if (layers := _dimension(space, "layer")) and {arm.layer for arm in ground.arms if arm.control != "none"} == {None}:
        raise StudyError(
            f"--search {layers.text}: a block without pre-trained weights is the same at every layer; leave it out, "
            f"or fetch the weights of {arm.name!r}"
        )
    return arm.control


def _dimension(space: Sequence[Dimension], name: str) -> Dimension | None:
    return next((dimension for dimension in space if dimension.name == name), None)


def _has(space: Space, name: str) -> bool:
    return _dimension(space, name) is not None
