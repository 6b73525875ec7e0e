"""Names out of data, study files and plans never become paths outside the run folder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench import plan
from bench.study import StudySpec, bind
from bench.trial import attempt
from reports import album
from reports.build import write_report
from results.record import Status
from tests.bench.trial_room import SMALL, jobs_of
from tests.conftest import edit_task, write_task

WAYS_OUT = [
    "../../out",
    "/tmp/out",
    "..",
    ".",
    "~/out",
    "a/../../../out",
    "$(touch out)",
    "-rf",
    "out\n../out",
    "é\u202e",
]
NAMES = st.one_of(st.sampled_from(WAYS_OUT), st.text(min_size=1, max_size=20).filter(lambda text: text.strip()))


def files(folder: Path) -> dict[str, int]:
    return {str(path): path.lstat().st_mtime_ns for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def ground(tmp_path_factory) -> Iterator[Path]:
    """A folder in a folder, in which a task lies; whatever leads out is still within what is looked at."""
    root = tmp_path_factory.mktemp("ground") / "a" / "b" / "c"
    write_task(root / "data")
    before = Path.cwd()
    os.chdir(root)
    yield root
    os.chdir(before)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(labels=st.lists(NAMES, min_size=2, max_size=2, unique=True), words=st.lists(NAMES, min_size=4, max_size=4))
def test_a_plan_of_hostile_data_stays_in_its_folder(ground, labels, words):
    name, channel, reference, patient = words
    edit_task(
        ground / "data" / "Task99_Tiny",
        name=name, modality={"0": channel}, labels={"0": "background", "1": labels[0], "2": labels[1]},
        reference=reference, licence=reference, notice=reference, patients={"tiny_0": patient},
    )  # fmt: skip
    before = files(ground.parents[2])
    study = StudySpec(backbones=("none",), data=str(ground / "data"), settings=SMALL, out="run")
    from bench import preflight

    found = preflight.check(study, lambda text: None)
    jobs = plan.expand(study, found)
    plan.remember(Path("run"), [job.spec for job in jobs])
    plan.save_splits(study, found, Path("run"))
    bind(study, Path("run"))
    new = {path for path, time in files(ground.parents[2]).items() if before.get(path) != time}
    assert {path for path in new if not path.startswith(str(ground / "run"))} <= {str(ground)}
    for path in (ground / "run" / "plan.json", ground / "run" / "study.toml"):
        path.unlink()


def test_a_trial_and_a_report_of_hostile_data_stay_in_their_folder(tmp_path, make_task, monkeypatch):
    """Every figure is drawn once, as SVG; its PDF and PNG are asked for where they lie, and hold nothing."""
    for kind in ("pdf", "png"):
        monkeypatch.setitem(album._FORMATS, kind, lambda figure, to: to.write(b"not drawn"))
    root = tmp_path / "a" / "b" / "c"
    folder = make_task(root / "data", name="-Task .. $(touch out) é", labels=("../../out", "/tmp/../out"))
    edit_task(folder, patients={"tiny_0": "../../p", "tiny_1": "/p"}, name="../../../out", modality={"0": "../CT"})
    monkeypatch.chdir(root)
    before = files(tmp_path)
    (job,) = jobs_of(StudySpec(backbones=("none",), data="data", settings=SMALL, out="run"))
    record = attempt(job, lambda entry, share: None)
    assert record.status is Status.COMPLETE, record.error
    write_report(Path("run"), expected=[job.spec])
    new = {path for path, time in files(tmp_path).items() if before.get(path) != time}
    assert new and all(path.startswith(str(root / "run")) for path in new - {str(root)})
    figures = (root / "run" / "report" / "figures").glob("*touch out*")
    assert {path.suffix for path in figures} == {".svg", ".pdf", ".png"}


@given(values=st.fixed_dictionaries({}, optional={
    "backbones": st.lists(NAMES, min_size=1, max_size=2),
    "tasks": st.lists(NAMES, min_size=1, max_size=2),
    "preset": NAMES,
    "labels": NAMES,
    "log": NAMES,
    "references": st.lists(NAMES, min_size=1, max_size=1),
    "controls": st.lists(NAMES, min_size=1, max_size=1),
    "weights": st.dictionaries(NAMES, NAMES, min_size=1, max_size=1),
}).filter(bool))  # fmt: skip
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_hostile_study_file_is_refused_before_anything_is_written(bench, tmp_path, tiny_msd, values):
    (tmp_path / "study.toml").write_text(tomli_w.dumps(values))
    before = files(tmp_path)
    code, out, err = bench("plan", "--study", "study.toml", "--data", tiny_msd, "--offline")
    assert files(tmp_path) == before
    assert code == 2 and err.startswith(("error: ", "Usage: ", "Error: ")), (values, out, err)


@pytest.mark.parametrize("name", ["../../out", "/tmp/out", "..", ""])
@pytest.mark.parametrize("field", ["task", "backbone"])
def test_a_hostile_plan_is_named_as_damaged(bench, tmp_path, tiny_msd, name, field):
    run = tmp_path / "run"
    (job,) = jobs_of(StudySpec(backbones=("none",), data=str(tiny_msd), settings=SMALL, out=str(run)))
    plan.remember(run, [job.spec])
    (entry,) = json.loads((run / "plan.json").read_text())
    (run / "plan.json").write_text(json.dumps([entry | {field: name}]))
    for line in (["status", run], ["report", run]):
        code, _, err = bench(*line)
        assert code == 2 and "plan.json" in err and "Traceback" not in err
