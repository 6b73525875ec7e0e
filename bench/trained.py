"""The trained model of a trial, found again: its record, its backbone, its block, and what was stored of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import backbones
from backbones import weights
from backbones.block_file import titled
from backbones.errors import UnknownBackbone
from backbones.request import Request, parse, resolve
from backbones.spec import BackboneSpec
from backbones.weights import BlockFile, WeightsError
from bench.arms import Arm
from bench.errors import PredictionError
from bench.plan import FILE as PLAN
from bench.study import FILE as STUDY
from bench.study import StudyError
from bench.study import load as load_study
from bench.trial import TrialJob, build_segmenter
from mvl.config import SegmenterConfig
from results import store
from results.record import Status, TrialResult, TrialSpec, Weights

if TYPE_CHECKING:
    from torch import nn

#: Trials that an error lists.
_LISTED = 20


@dataclass(frozen=True)
class Trained:
    """A complete trial and the run folder it lies in."""

    run: Path
    record: TrialResult


def find_trial(text: str | Path) -> Trained:
    """`RUN`, `RUN/TASK/ARM`, `RUN/KEY`, `RUN/DIGEST` or a record's path, as long as one complete trial is meant.

    A digest may be cut short. PredictionError lists what there is, and RecordError names a damaged record.
    """
    path = Path(text)
    run = next((folder for folder in (path, *path.parents) if _is_run(folder)), None)
    if run is None:
        raise PredictionError(f"{text}: neither a run folder nor a trial in one; give RUN/TRIAL")
    parts = path.relative_to(run).parts
    asked = "/".join(parts[1:] if parts[:1] == ("trials",) else parts).removesuffix(".json")
    records = store.read(run)
    complete = [record for record in records if record.status is Status.COMPLETE]
    found = [record for record in complete if _is_meant(asked, record.spec)]
    if len(found) == 1:
        return Trained(run, found[0])
    failed = [record for record in records if record.status is not Status.COMPLETE and asked in _names(record.spec)]
    if failed and not found:
        last = (failed[0].error.splitlines() or ["unknown"])[-1]
        raise PredictionError(f"{text}: {failed[0].spec.title} failed and left no model: {last}")
    said = f"{len(found)} trials are meant; name one of them" if found else "no such complete trial; there are"
    raise PredictionError(f"{text}: {said}:\n{_listed(found or complete, run)}")


def load_model(trained: Trained) -> nn.Module:
    """The trained model on this process's device, as it was scored. PredictionError, WeightsError or WeightsMissing."""
    from bench import engine, model_file

    run, record = trained.run, trained.record
    spec = record.spec
    metadata = model_file.read_metadata(run, spec, record.provenance.get("model"))
    backbone = _backbone(trained)
    block, second = _blocks(backbone, record) if backbone else (None, None)
    job = TrialJob(spec, record.task, data="", run=str(run), backbone=backbone, block=block, second=second)
    model = build_segmenter(job, SegmenterConfig.of(metadata["config"]))
    return model_file.load(run, spec, model, metadata["left_out"]).to(engine.device()).eval()


def _is_run(folder: Path) -> bool:
    return (folder / PLAN).is_file() or (folder / "trials").is_dir()


def _names(spec: TrialSpec) -> tuple[str, ...]:
    """The names under which a trial may be asked for, the digest among them."""
    return spec.key, f"{spec.task}/{spec.arm}", spec.task, spec.digest, spec.key.rpartition("/")[2], ""


def _is_meant(asked: str, spec: TrialSpec) -> bool:
    return asked in _names(spec) or (len(asked) >= 3 and spec.digest.startswith(asked))


def _listed(records: list[TrialResult], run: Path) -> str:
    lines = [f"  {run / record.spec.key}  ({record.spec.title})" for record in records[:_LISTED]]
    if len(records) > _LISTED:
        lines.append(f"  and {len(records) - _LISTED} more: `python -m bench status {run}`")
    return "\n".join(lines) or "  none at all"


def _backbone(trained: Trained) -> BackboneSpec | None:
    """The row that the arm was built of: the registry's or a checkpoint's own, or its stand-in's."""
    spec = trained.record.spec
    if not spec.block:
        return None
    row = _row(trained)
    for candidate in (row, backbones.stand_in(row)):
        settings = {"rotary": None, "causal": None, "dtype": None, "lora_rank": None, "second_layer": None}
        built = Arm(candidate, spec.control, spec.weights).settings(settings)
        if all(spec.block.get(name) == built.get(name) for name in ("architecture", "width")):
            return candidate
    raise PredictionError(
        f"{spec.title}: backbone {row.name!r} is of another architecture now than when the trial was trained; "
        f"the record's commit is {trained.record.provenance.get('commit')}"
    )


def _row(trained: Trained) -> BackboneSpec:
    name = trained.record.spec.backbone
    if name in backbones.names():
        return backbones.get(name)
    tried = list(dict.fromkeys(_places(trained)))
    for request in tried:
        try:
            row = resolve(request).spec
        except (UnknownBackbone, WeightsError):
            continue  # the folder is gone, or it is another backbone's: the error below names all that were tried
        if row.name == name:
            return row
    where = ", ".join(request.what for request in tried) or "unknown"
    raise PredictionError(
        f"{trained.record.spec.title}: the registry does not know {name!r}, and the checkpoint it came from is not "
        f"here ({where}); put it back"
    )


def _places(trained: Trained) -> Iterator[Request]:
    """Where a backbone that the registry does not know may have come from: the study's own words, then the record's."""
    try:
        yield from parse(load_study(trained.run / STUDY).get("backbones", ()))
    except StudyError:
        yield from ()  # a run folder made by merging has no study; the record has a place of its own
    if source := trained.record.spec.weights.source:
        yield Request(source)


def _blocks(row: BackboneSpec, record: TrialResult) -> tuple[BlockFile | None, BlockFile | None]:
    """The files of the block, or of both, that the trial was trained with; None for what was read from none."""
    spec = record.spec
    second = record.second_weights
    first = _block(row, spec, spec.weights, spec.layer or 0) if spec.weights.sha256 else None
    return first, _block(row, spec, second, spec.block["second_layer"]) if second else None


def _block(row: BackboneSpec, spec: TrialSpec, read: Weights, layer: int) -> BlockFile:
    """The block file with the hash that the record has, wherever in the cache it is."""
    for finding in weights.survey([row.name], hashes=False):
        if finding.block and finding.block.sha256 == read.sha256:
            return finding.block
    source = read.source
    name = titled(row.name if row.name in backbones.names() else source, layer, row.layer)
    command = f"`python -m bench weights fetch {name}`"
    if row.name in backbones.names() and Path(source).exists():
        command = f"`python -m bench weights fetch {name} --from {source}`"
    raise PredictionError(
        f"{spec.title}: the block it was trained with (sha256 {read.sha256[:12]}, from {source}) is not here; "
        f"{command} gets it"
    )
