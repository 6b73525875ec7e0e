"""One trial, without Ray: its record, that it repeats, that an error is recorded."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

import backbones
from bench import plan, preflight
from bench.data.folder import open_task
from bench.data.preparation import fit_preparation
from bench.listing import presence
from bench.settings import data_settings
from bench.study import StudySpec
from bench.trial import attempt, prepare
from results import store
from results.record import Status
from tests.backbones import tiny
from tests.bench.trial_room import SMALL, held_out, jobs_of


@pytest.fixture
def study(tiny_msd, tmp_path) -> StudySpec:
    return StudySpec(backbones=("none",), data=str(tiny_msd), settings=SMALL, out=str(tmp_path / "run"))


def test_a_trial_leaves_a_complete_record_and_its_pictures(study):
    (job,) = jobs_of(study)
    shares: list[float] = []
    record = attempt(job, lambda entry, share: shares.append(share))
    assert record.status is Status.COMPLETE, record.error
    assert shares == sorted(shares) and shares[-1] == pytest.approx(1.0)
    assert [entry["step"] for entry in record.curve] == [2, 4]
    assert {score.case for score in record.cases} == set(held_out(job))
    assert all(score.tp + score.fp + score.fn + score.tn == 20**3 for score in record.cases)
    assert all(score.diagonal == pytest.approx(20 * 17**0.5) for score in record.cases)  # of 2 × 2 × 3 mm
    assert any(score.nsd is not None for score in record.cases)
    assert record.cost["trainable_parameters"] > 0 and record.cost["frozen_parameters"] == 0
    assert len(record.cost["epoch_seconds"]) == len(record.curve)
    assert sum(record.cost["epoch_seconds"]) <= record.cost["train_seconds"] + 0.1  # two clocks
    assert record.provenance["data_digest"] == job.spec.data_digest
    assert store.read(study.run) == [record]
    with np.load(study.run / "previews" / f"{job.spec.key}.npz", allow_pickle=False) as preview:
        assert set(preview["cases"].tolist()) == set(held_out(job))
        assert preview["image_0"].shape == preview["reference_0"].shape == preview["prediction_0"].shape


def test_a_fraction_of_merged_labels_is_what_a_trial_prepares_and_scores(study):
    """The few-shot study: the settings of preprocessing are measured on the fraction, too."""
    few = replace(study, fractions=(0.3, 1.0), labels="binary", folds="all")
    jobs = jobs_of(few)
    assert [(job.spec.fold, job.spec.fraction) for job in jobs[:3]] == [(0, 0.3), (0, 1.0), (1, 0.3)]
    small, whole = (prepare(job) for job in jobs[:2])
    assert (len(small[1]), len(whole[1])) == (jobs[0].info.training_cases, jobs[1].info.training_cases) == (2, 4)
    assert {case.id for case in small[1]} < {case.id for case in whole[1]}
    assert [case.id for case in small[2]] == [case.id for case in whole[2]]
    assert small[0] != whole[0]
    record = attempt(jobs[0], lambda entry, share: None)
    assert record.status is Status.COMPLETE, record.error
    assert {score.label for score in record.cases} == {"foreground"} and record.task.name == "Task99_Tiny-binary"
    assert record.spec.title.endswith("seed 0, fold 0, 30% of cases")


def test_a_trial_measures_its_settings_on_the_training_cases_alone(study, make_task, tmp_path):
    """The held-out case has other intensities and another spacing, which a fit on all cases cannot miss."""
    folder = make_task(tmp_path / "leak", cases=3)
    apart = replace(study, data=str(tmp_path / "leak"))
    (planned,) = jobs_of(apart)
    for name in held_out(planned):
        for part, more in (("imagesTr", 900), ("labelsTr", 0)):
            path = folder / part / f"{name}.nii.gz"
            nib.save(nib.Nifti1Image(np.asarray(nib.load(path).dataobj) + more, np.diag([5.0, 5, 9, 1])), path)
    (job,) = jobs_of(apart)
    cases = open_task(tmp_path / "leak", "Task99_Tiny").cases
    unseen = held_out(job)
    assert unseen == held_out(planned) and 0 < len(unseen) < len(cases)
    data = data_settings(job.spec.data)
    settings = ((True,), data.max_voxels, data.hounsfield, data.anisotropy)
    alone = fit_preparation([case for case in cases if case.id not in unseen], *settings)
    assert prepare(job)[0] == alone != fit_preparation(cases, *settings)
    assert (alone.scales[0].high < 900) and alone.spacing == (2.0, 2.0, 3.0)


def test_a_window_is_for_ct_also_beside_other_channels(study, make_task, tmp_path):
    from bench.study import StudyError

    windowed = {**SMALL, "data": {"window": "-100,100"}}
    assert preflight.check(replace(study, settings=windowed), lambda text: None).notices == ()
    make_task(tmp_path / "mixed", channels=("PET", "ct_low"))
    mixed = replace(study, data=str(tmp_path / "mixed"), settings=windowed)
    assert preflight.check(mixed, lambda text: None).notices == ()
    make_task(tmp_path / "pet", channels=("PET",))
    with pytest.raises(StudyError, match=r"^--set data.window=-100,100: clips CT, but no task and no channel is CT"):
        preflight.check(replace(mixed, data=str(tmp_path / "pet")), lambda text: None)


def test_the_split_of_each_fraction_is_kept(study):
    few = replace(study, fractions=(0.3, 1.0))
    plan.save_splits(few, preflight.check(few, lambda text: None), study.run)
    bodies = {path.name: json.loads(path.read_text()) for path in (study.run / "splits").iterdir()}
    assert sorted(bodies) == ["Task99_Tiny-0-0.3.json", "Task99_Tiny-0.json"]
    small, whole = (bodies[name] for name in sorted(bodies))
    assert set(small["train"]) < set(whole["train"]) and small["held_out"] == whole["held_out"]
    assert (small["fraction"], whole["fraction"]) == (0.3, 1.0)


def test_a_trial_repeats_but_for_times(study, tmp_path):
    first, second = (
        attempt(jobs_of(replace(study, out=str(tmp_path / name)))[0], lambda entry, share: None) for name in "ab"
    )
    assert first.status is Status.COMPLETE
    assert (first.spec, first.cases, first.curve) == (second.spec, second.cases, second.curve)
    other = attempt(jobs_of(replace(study, seeds=(1,)))[0], lambda entry, share: None)
    assert other.curve != first.curve


def test_a_frozen_block_of_any_kind_fits(tiny_msd, tmp_path):
    """A stand-in is tiny, so this is fast; what the block is made of is tested in its own room."""
    study = StudySpec(
        backbones=("llama3", "gpt2"), tasks=("Task04_Hippocampus",), settings=SMALL, out=str(tmp_path / "run")
    )
    jobs = jobs_of(study)
    assert [job.spec.control for job in jobs] == ["none", "stand-in", "stand-in"]
    records = [attempt(job, lambda entry, share: None) for job in jobs]
    assert [record.status for record in records] == [Status.COMPLETE] * 3, [record.error for record in records]
    assert [record.cost["frozen_parameters"] > 0 for record in records] == [False, True, True]
    assert len({str(record.curve) for record in records}) == 3


def test_reference_models_are_trained_and_scored_on_the_crops_and_cases_of_the_baseline(study):
    jobs = jobs_of(replace(study, references=("all",)))
    assert [job.spec.backbone for job in jobs] == ["none", "dynunet", "segresnet", "swinunetr", "unetr"]
    records = [attempt(job, lambda entry, share: None) for job in jobs]
    assert [record.status for record in records] == [Status.COMPLETE] * 5, [record.error for record in records]
    for record in records:
        assert record.provenance["crop"] == records[0].provenance["crop"]
        assert [score.case for score in record.cases] == [score.case for score in records[0].cases]
        assert record.cost["trainable_parameters"] > 0 and record.cost["frozen_parameters"] == 0
    assert len({str(record.curve) for record in records}) == 5
    assert store.read(study.run) == sorted(records, key=lambda record: record.spec.key)


def test_an_error_is_recorded_and_gives_way_to_success(study):
    (job,) = jobs_of(study)
    broken = replace(job, data=str(study.run / "gone"))
    record = attempt(broken, lambda entry, share: None)
    assert record.status is Status.FAILED and "gone" in record.error and "Traceback" in record.error
    assert store.completed(study.run) == set()
    assert attempt(job, lambda entry, share: None).status is Status.COMPLETE
    assert store.completed(study.run) == {job.spec.digest} and not store.failed(study.run)


def test_a_loss_that_is_no_number_is_recorded_with_its_step(study):
    wild = {**SMALL, "train": {"steps": 4, "lr": 1e30, "clip": 1e30, "warmup": 0.0}}
    (job,) = jobs_of(replace(study, settings=wild))
    record = attempt(job, lambda entry, share: None)
    assert record.status is Status.DIVERGED and "Diverged: the loss is" in record.error


def test_a_last_step_that_leaves_no_numbers_is_diverged_too(study):
    settings = SMALL | {"train": SMALL["train"] | {"steps": 1, "epochs": 1, "lr": 1e38, "warmup": 0.0}}
    (job,) = jobs_of(replace(study, settings=settings))
    record = attempt(job, lambda entry, share: None)
    assert record.status is Status.DIVERGED and "is not a number" in record.error


def test_real_images_with_a_random_block_say_random(tiny_msd, tmp_path):
    study = StudySpec(backbones=("gpt2",), data=str(tiny_msd), weights={"gpt2": "random"}, out=str(tmp_path / "run"))
    assert [(job.spec.backbone, job.spec.control, job.spec.weights.kind) for job in jobs_of(study)] == [
        ("none", "none", "none"),
        ("gpt2", "random", "random"),
    ]


def test_a_pretrained_block_comes_with_its_twin_and_its_hash(tiny_msd, tmp_path):
    row = backbones.get("gpt2")
    checkpoint = tiny.write_checkpoint(tmp_path / "gpt2", row)
    study = StudySpec(
        backbones=("gpt2",), data=str(tiny_msd), weights={"gpt2": str(checkpoint)}, settings=SMALL,
        out=str(tmp_path / "run"),
    )  # fmt: skip
    jobs = jobs_of(study)
    assert [job.spec.control for job in jobs] == ["none", "pretrained", "random"]
    assert len(jobs[1].spec.weights.sha256) == 64 and jobs[1].spec.weights.source == str(checkpoint)
    assert presence(row) == "no"  # a path given for one study is not taken for the row's own weights in the next
    records = [attempt(job, lambda entry, share: None) for job in jobs]
    assert [record.status for record in records] == [Status.COMPLETE] * 3, [record.error for record in records]
    assert records[1].cost["frozen_parameters"] == records[2].cost["frozen_parameters"] == 7087872
    assert records[1].curve != records[2].curve


def test_a_process_that_dies_after_its_record_leaves_it(study):
    from bench.launch.watch import Watch

    (job,) = jobs_of(study)
    record = attempt(job, lambda entry, share: None)
    error = study.run / "error.txt"
    error.write_text("The actor died")
    died = SimpleNamespace(config={"key": job.spec.key}, error_file=str(error), should_recover=lambda: False)
    seen: list[tuple[str, float]] = []
    watch = Watch({job.spec.key: job}, lambda key, share, failed=False: seen.append((key, share)))
    watch.on_trial_error(0, [], died)
    assert store.read(study.run) == [record] and seen == [(job.spec.key, 1.0)]
    other = replace(job, spec=replace(job.spec, seed=9))
    Watch({job.spec.key: other}, lambda key, share, failed=False: None).on_trial_error(0, [], died)
    (failed,) = store.failed(study.run)
    assert failed.error.startswith("The actor died") and "its process died: it was killed" in failed.error


def test_other_data_under_the_same_name_is_refused(study, make_task, tmp_path):
    from bench.study import StudyError

    jobs = jobs_of(study)
    plan.remember(study.run, [job.spec for job in jobs])
    assert plan.expected(study.run) == [job.spec for job in jobs]
    make_task(tmp_path / "other", seed=5)
    others = jobs_of(replace(study, data=str(tmp_path / "other")))
    with pytest.raises(StudyError, match="planned with another data_digest"):
        plan.remember(study.run, [job.spec for job in others])


def test_the_plan_grows_by_new_trials_alone(study):
    jobs = jobs_of(replace(study, seeds=(0, 1, 2)))
    specs = [job.spec for job in jobs]
    plan.remember(study.run, specs[:2])
    before = (study.run / plan.FILE).stat().st_mtime_ns
    plan.remember(study.run, [*specs[:2], *specs[:2]])
    assert (study.run / plan.FILE).stat().st_mtime_ns == before
    plan.remember(study.run, [*specs[1:], *specs])
    assert plan.expected(study.run) == specs
