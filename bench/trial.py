"""One trial, from its specification to its record. Newcomers read this first.

This is the only module that joins a task, a block and a segmenter. It knows nothing of Ray: it runs as well in a test.
"""

from __future__ import annotations

import gc
import json
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbones import controls
from backbones.spec import BackboneSpec, BlockOptions
from backbones.weights import BlockFile
from bench import leftovers, provenance, stopping
from bench.data.folder import Case, open_task
from bench.data.preparation import Preparation, ct_channels, fit_preparation
from bench.data.splits import make_split
from bench.data.volumes import PreparedCase, prepare_case
from bench.failures import advised
from bench.held_out import TRAINING_SHARE, score
from bench.interval import Interval
from bench.settings import TrainSettings, data_settings, train_settings
from bench.stopping import Stopped
from results import store
from results.record import ANY_LAYER, Status, TaskInfo, TrialResult, TrialSpec, Weights

if TYPE_CHECKING:
    from torch import nn

    from bench.data.crops import CropSampler
    from bench.keeper import Keeper
    from mvl.config import SegmenterConfig
    from mvl.model import Segmenter
    from mvl.references.fitted import Fitted

#: Called as work goes on with a few values to show and the share of the trial that is done.
Report = Callable[[dict[str, Any], float], None]


@dataclass(frozen=True)
class TrialJob:
    """A trial and where its things are. Nothing here but `spec` may change a number.

    data is the folder that holds the task, run the run folder, block the one-layer file (None where nothing is read),
    second that of the second of two blocks.
    cpus and gpus are those of a worker, as `bench.running` has them.
    activations: of how many held-out cases, the first by name, the activation maps are kept.
    keep_model: store the trained model in the run folder. checkpoint_every: how often training is kept, as
    `bench.interval` reads it. loader_threads, validation_crops: as `bench.running` has them.
    """

    spec: TrialSpec
    info: TaskInfo
    data: str
    run: str
    backbone: BackboneSpec | None = None
    block: BlockFile | None = None
    second: BlockFile | None = None
    workers: int = 1
    cpus: int = 0
    gpus: float | None = None
    zero_stage: int = 0
    checkpointing: bool = False
    activations: int = 0
    command: str = ""
    keep_model: bool = True
    checkpoint_every: str = "5m"
    loader_threads: int | None = None
    validation_crops: int = 0


def attempt(job: TrialJob, report: Report) -> TrialResult:
    """Run a trial and write its record: complete, failed or diverged. An error is recorded, not raised.

    But Stopped is raised, and OSError where the record cannot be written: there is no record then.
    """
    started = provenance.now()
    try:
        record = run_trial(job, report)
    except Stopped:
        raise
    except Exception as error:
        report({"error": str(error)}, 1.0)
        return record_failure(job, "".join(traceback.format_exception(error)), started, _status_of(error))
    finally:
        gc.collect()  # an engine is a ring of references, and a process serves many trials
    assert record is not None, "a lone worker is rank 0"
    return record


def attempt_together(job: TrialJob, report: Report) -> TrialResult | None:
    """As attempt, as one of several workers. An error is raised: it may come of another's end, and all try again.

    But what is no number is told to every worker, and recorded by the first.
    """
    from bench.engine import join

    started = provenance.now()
    try:
        return run_trial(job, report)
    except Exception as error:
        if (status := _status_of(error)) is not Status.DIVERGED:
            raise
        if join()[0] > 0:
            return None
        return record_failure(job, "".join(traceback.format_exception(error)), started, status)


def record_failure(job: TrialJob, error: str, started: str = "", status: Status = Status.FAILED) -> TrialResult:
    """Write the record of a trial that did not end well; it never counts as done.

    One that failed is tried again by the next run, one that diverged only where that is asked for.
    """
    origin = provenance.code_and_machine() | {"started": started, "finished": provenance.now(), "command": job.command}
    origin |= _second_origin(job)
    record = TrialResult(job.spec, status, job.info, provenance=origin, error=advised(error))
    store.write(Path(job.run), record)
    if status is Status.DIVERGED:
        leftovers.discard(Path(job.run), job.spec.key)
    return record


def _second_origin(job: TrialJob) -> dict[str, Any]:
    """Where the block at a second place was read from, for a record's provenance; nothing where none was."""
    if job.second is None:
        return {}
    block = job.second
    return {"second_weights": asdict(Weights(job.spec.weights.kind, block.source, block.sha256, block.licence))}


def _status_of(error: Exception) -> Status:
    """A last step can leave weights that only show in the prediction: that is no less diverged."""
    from bench.errors import PredictionError
    from bench.train import Diverged

    return Status.DIVERGED if isinstance(error, (Diverged, PredictionError)) else Status.FAILED


def run_trial(job: TrialJob, report: Report) -> TrialResult | None:
    """Prepare, train, score, and write the record. Several workers share the work; rank 0 writes and returns it.

    Training goes on from a checkpoint where there is one, and raises Stopped where the run was asked to stop.
    """
    import torch

    from bench import engine as deepspeed_engine
    from bench.cost import CostMeter, parameters
    from bench.data.crops import CropSampler
    from bench.train import train
    from bench.validation import Validation

    spec = job.spec
    started, meter = provenance.now(), CostMeter()
    rank, workers = deepspeed_engine.join()
    preparation, training, held_out = prepare(job)
    meter.mark("prepared")

    engine, sampler, settings = assemble(job, training, workers)
    meter.mark("built")
    notices: list[str] = []
    keeper = _keeper(job, engine, settings.batch, rank, notices.append)
    unseen = CropSampler(held_out, sampler.crop, spec.seed, settings.foreground, augment="none")
    validation = Validation(unseen, job.validation_crops, rank, workers, settings.batch)

    def epoch_ended(entry: dict[str, Any], share: float) -> None:
        meter.epoch_ended(validation.seconds)
        report(entry, TRAINING_SHARE * share)

    ahead = job.loader_threads if job.loader_threads is not None else 2 * (engine.device.type == "cuda")
    meter.mark("begun")
    course = train(engine, sampler, settings, rank, workers, epoch_ended, keeper, ahead, validation)
    steps, seconds = course.step, round(course.clock.seconds, 4)
    meter.mark("trained")
    model = deepspeed_engine.by_itself(engine, lambda: build_segmenter(job, engine.module.config))
    cases = score(job, model, held_out, report, rank, workers)
    meter.mark("scored")
    if cases is None:
        return None
    cost = (
        parameters(model)
        | keeper.cost()
        | {
            "steps": steps,
            "prepare_seconds": meter.between("start", "prepared"),
            "train_seconds": seconds,
            "validation_seconds": round(validation.seconds, 4),
            "score_seconds": meter.between("trained", "scored"),
            "seconds_a_step": round(seconds / steps, 5),
            "epoch_seconds": meter.epoch_seconds("begun", len(course.curve), bool(course.taken_up)),
            "peak_memory_bytes": meter.peak_bytes(),
            "peak_memory_scope": meter.scope,
        }
    )
    origin = provenance.code_and_machine() | {
        "started": started,
        "finished": provenance.now(),
        "device": str(engine.device),
        "threads": torch.get_num_threads(),
        "workers": workers,
        "zero_stage": job.zero_stage,
        "checkpointing": job.checkpointing,
        "repeatable": not settings.seconds,
        "weights": asdict(spec.weights),
        "data_digest": spec.data_digest,
        "command": job.command,
        "taken_up": course.taken_up,
        "notices": notices,
        "crop": list(sampler.crop),
        "model": store_model(job, model),
        "preparation": json.loads(json.dumps(asdict(preparation))),  # lists for tuples, as it will be read again
    }
    origin |= _second_origin(job)
    record = TrialResult(spec, Status.COMPLETE, job.info, tuple(cases), tuple(course.curve), origin, cost)
    store.write(Path(job.run), record)
    leftovers.discard(Path(job.run), spec.key)
    return record


def assemble(job: TrialJob, training: list[PreparedCase], workers: int) -> tuple[Any, CropSampler, TrainSettings]:
    """What a trial trains with: the engine around its segmenter, the crops of its training cases, and the settings."""
    from bench import engine
    from bench.data.crops import CropSampler
    from mvl.config import SegmenterConfig

    spec = job.spec
    settings = train_settings(spec.train).for_cases(len(training))
    sizes = {name: value for name, value in spec.model.items() if name != "features"}  # a reference model's own
    config = SegmenterConfig.of(sizes).fitted([case.shape for case in training])
    model = build_segmenter(job, config)
    sampler = CropSampler(training, config.image, spec.seed, settings.foreground, settings.flips, settings.augment)
    return engine.start(model, settings, workers, job.zero_stage), sampler, settings


def _keeper(job: TrialJob, engine: Any, batch: int, rank: int, say: Callable[[str], None]) -> Keeper:
    """What makes the trial's checkpoints. Another setup would not end with the same numbers, so it has its own."""
    from bench.checkpoints import Checkpoints
    from bench.keeper import Keeper

    setup = {"workers": job.workers, "zero_stage": job.zero_stage, "device": engine.device.type}
    checkpoints = Checkpoints(
        Path(job.run), job.spec, setup | provenance.versions() | {"code": provenance.code()}, rank
    )
    every = Interval.of(job.checkpoint_every, job.info.training_cases, batch)
    return Keeper(checkpoints, every, stopping.asked(Path(job.run)), say)


def build_segmenter(job: TrialJob, config: SegmenterConfig) -> Segmenter | Fitted:
    """The segmenter of one arm. What all arms share starts from the same values: the seed's own."""
    import torch

    from mvl import references
    from mvl.matched import KINDS, Matched
    from mvl.model import Segmenter

    spec = job.spec
    torch.manual_seed(spec.seed)
    if spec.control == "none":
        return Segmenter(config, checkpointing=job.checkpointing)
    if spec.control == "reference":
        return references.build(spec.backbone, config, spec.model["features"])
    assert job.backbone is not None, "every other arm is of a backbone"
    if spec.control in KINDS:
        return Segmenter(config, matched=Matched(spec.control, job.backbone.width), checkpointing=job.checkpointing)
    return Segmenter(config, _blocks(job, job.backbone, config), checkpointing=job.checkpointing)


def _blocks(job: TrialJob, backbone: BackboneSpec, config: SegmenterConfig) -> nn.Module | dict[str, nn.Module]:
    """The block of the arm; where it has a second layer, a block for each of its places, in the order of the way."""
    spec = job.spec
    chosen = {name: spec.block[name] for name in ("rotary", "causal", "dtype") if name in spec.block}
    options = BlockOptions(**chosen, checkpointing=job.checkpointing)
    rank, other = spec.block.get("lora_rank", 0), spec.block.get("second_layer")
    first = controls.build(backbone, spec.control, spec.layer, job.block, spec.seed, options, rank)
    if other is None:
        return first
    layer = None if other == ANY_LAYER else other
    second = controls.build(backbone, spec.control, layer, job.second, spec.seed, options, rank, second=True)
    return dict(zip(config.places, (first, second), strict=True))


def prepare(job: TrialJob) -> tuple[Preparation, list[PreparedCase], list[PreparedCase]]:
    """Settings measured on the training cases alone, and the training and held-out cases prepared by them."""
    folder = open_task(Path(job.data), job.spec.task)
    split = make_split(folder.cases, job.spec.fold, fraction=job.spec.fraction)
    if split.digest != job.spec.split_digest:
        raise ValueError(f"{folder.path}: the split is not the planned one; were cases added or removed?")
    by_id = {case.id: case for case in folder.cases}
    return prepare_sides(job, [by_id[i] for i in split.train], [by_id[i] for i in split.held_out])


def prepare_sides(
    job: TrialJob, train: list[Case], held_out: list[Case]
) -> tuple[Preparation, list[PreparedCase], list[PreparedCase]]:
    """`prepare`, of the two sides of any split."""
    data = data_settings(job.spec.data)
    ct = ct_channels(job.info.modality, job.info.channels)
    settings = fit_preparation(train, ct, data.max_voxels, data.hounsfield, data.anisotropy)
    training, unseen = ([prepare_case(case, settings) for case in side] for side in (train, held_out))
    return settings, training, unseen


def store_model(job: TrialJob, model: Any) -> dict[str, Any] | None:
    """Keep the trained model for `bench predict`, before there is a record of it; None where it is not to be kept."""
    from bench import model_file

    return asdict(model_file.save(Path(job.run), job.spec, model)) if job.keep_model else None
