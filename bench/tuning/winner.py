"""The winner of a search as a TOML study that `bench run --study` takes, with a comment that says how it was found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import tomli_w

from backbones.request import Request, parse
from bench.study import StudyError, StudySpec, as_toml
from bench.tuning.samples import Sample
from bench.tuning.search import Search
from bench.tuning.space import overlaid
from results.store import atomic_write

_MARK = "# Found by `bench tune`"


def check_target(path: Path) -> None:
    """StudyError if the file is there and is not one that a search has written."""
    if path.is_dir() or (path.exists() and not path.read_text(errors="replace").startswith(_MARK)):
        raise StudyError(f"--to {path}: is there already and was not written by a search; give another name")


def write_winner(path: Path, study: StudySpec, search: Search, winner: Sample, samples: Sequence[Sample]) -> None:
    """Write the study, with the winner's values in the place of what it said, and the fold that it was tuned on."""
    chosen = _chosen(study, winner)
    lines = _comment(path, study, search, winner, samples)
    comment = "".join(f"# {''.join(filter(str.isprintable, line))}\n" for line in lines)
    out = tomli_w.dumps({"out": f"runs/{path.stem}"})  # the usual folder may hold a study with other settings
    atomic_write(path, f"{comment}{out}{as_toml(chosen)}".encode())


def _chosen(study: StudySpec, winner: Sample) -> StudySpec:
    values = winner.values
    (request,) = parse(study.backbones)
    if "layer" in values:
        request = Request(request.what, (values["layer"],))
    controls = study.controls
    if "lora_rank" in values and "lora" not in study.wanted_controls:
        controls = (*(name for name in controls if name != "none"), "lora")
    settings = overlaid(study.settings, values)
    return replace(study, backbones=(request.text,), controls=controls, settings=settings, command="")


def _comment(path: Path, study: StudySpec, search: Search, winner: Sample, samples: Sequence[Sample]) -> list[str]:
    states = Counter(sample.state.value for sample in samples)
    told = ", ".join(f"{count} {state}" for state, count in states.items())
    fold, inner = study.folds[0], search.split
    arm = search.job(winner.values).spec.title.removeprefix(f"{search.task} with ").split(", seed")[0]
    validation = f"{len(inner.held_out)} inner validation case(s)"
    return [
        f"{_MARK[2:]}: sample {winner.number}, inner Dice {winner.dice:.4f} over {validation}",
        f"Run it:   python -m bench run --study {path.name}",
        f"Command:  {' '.join(study.command.split())}",
        f"Searched: {'; '.join(dimension.text for dimension in search.space)}",
        f"Samples:  {len(samples)}: {told}",
        f"Tuned on: the training cases of fold {fold} of {search.task}, split again by patient:",
        f"          {len(inner.train)} trained on, {len(inner.held_out)} scored.",
        f"The cases that fold {fold} holds out were not opened: scores on fold {fold} are fair. Other folds hold out",
        "cases that the search has seen: tune each of them by itself.",
        "The inner Dice is the best of many and so too high; what the held-out cases give is the result.",
        f"The values were chosen for {arm}, and every arm of this study gets them; `bench tune --backbones none`",
        "gives the baseline the same chance.",
    ]
