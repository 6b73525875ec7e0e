"""score and rescore at the door: files in, tables and messages out."""

from __future__ import annotations

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

import results
from bench import plan
from bench.data.nifti import read_nifti
from bench.scoring.case import score_case
from results import store, summary
from tests.conftest import write_task
from tests.results import fake

CASES = [f"tiny_{number}" for number in range(3)]


@pytest.fixture
def folders(tmp_path):
    """A task of three cases, and predictions that are its labels moved by a voxel; of tiny_2 the dot is missed."""
    task = write_task(tmp_path, cases=3)
    for case in CASES:
        array, affine, *_ = read_nifti(task / "labelsTr" / f"{case}.nii.gz")
        save(np.roll(array * (array < 2 if case == "tiny_2" else 1), 1, 1), affine, tmp_path / "out" / f"{case}.nii.gz")
    return tmp_path / "out", task


def save(array, affine, path, kind=np.uint8):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array.astype(kind), affine), path)


def score(bench, folders, *more):
    return bench("score", "--prediction", folders[0], "--reference", folders[1], "--workers", "1", *more)


def table(out):
    rows = [line.split("\t") for line in out.split("\n\n")[0].splitlines()]
    return pd.DataFrame(rows[1:], columns=rows[0]).set_index(["case", "label"])


def refused(done, *words):
    code, out, err = done
    assert (
        code == 2
        and out == ""
        and all(line.startswith(("error: ", "1 of", "2 of", "3 of")) for line in err.splitlines())
    )
    assert all(str(word) in err for word in words), err


def test_the_table_is_that_of_the_same_code(bench, folders):
    code, out, err = score(bench, folders, "--profile", "v3", "--tolerance", "1.5")
    assert code == 0 and "3 cases scored; NSD within 1.5 mm" in err
    found = table(out)
    assert list(found.columns) == [
        "Dice",
        "Jaccard",
        "HD95 (mm)",
        "penalised HD95 (mm)",
        "NSD",
        "Sensitivity",
        "Specificity",
    ]
    expected = []
    for case in CASES:
        (ours, *_), (theirs, affine, *_) = (
            read_nifti(folder / f"{case}.nii.gz") for folder in (folders[0], folders[1] / "labelsTr")
        )
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        expected += score_case(ours, theirs.astype(np.uint8), spacing, ("blob", "dot"), case, case, 1.5)
    frame = summary.long_table([fake.complete(fake.spec(), fake.task(), tuple(expected))])
    for row in frame.itertuples():
        cells = found.loc[(row.case, row.label)]
        for name, value in (("Dice", row.dice), ("HD95 (mm)", row.hd95), ("NSD", row.nsd)):
            assert cells[name] == ("" if np.isnan(value) else f"{value:.4f}")
    means = frame.groupby("label")[["dice", "nsd", "hd95"]].mean()
    assert found.loc[("mean", "dot"), "Dice"] == f"{means['dice']['dot']:.4f}"
    assert found.loc[("mean", "all"), "HD95 (mm)"] == f"{means['hd95'].mean():.4f}"
    audit = out.split("\n\n")[1].splitlines()
    assert audit[0].split("\t") == [
        "label",
        "scores",
        "both empty",
        "reference empty",
        "prediction empty",
        "hd95 penalised",
    ]
    assert audit[1].split("\t") == ["dot", "3", "0", "0", "1", "1"] and len(audit) == 2


def test_workers_change_no_number(bench, folders):
    one = score(bench, folders)[1]
    code, two, err = bench("score", "--prediction", folders[0], "--reference", folders[1], "--workers", "2")
    assert code == 0 and two == one and "3 of 3" in err and "s left" in err


def test_files_and_a_run_folder_that_results_can_load(bench, folders, tmp_path):
    code, _, err = score(bench, folders, "--name", "nnunet", "--to", "ext")
    assert code == 0 and "ext/results.csv" in err
    frame = pd.read_csv("ext/results.csv")
    assert list(frame.columns) == list(summary.COLUMNS) and len(frame) == 6
    body = json.loads((tmp_path / "ext/results.json").read_text())
    assert body["cases"] == 3 and body["labels"] == {"1": "blob", "2": "dot"} and body["missing"] == []
    assert [row["label"] for row in body["means"]] == ["blob", "dot", "all"]
    assert body["scores"][-1]["hd95"] is None and body["scores"][-1]["nsd"] == 0.0
    loaded = results.load("ext")
    assert set(loaded.scores["arm"]) == {"nnunet (external)"} and set(loaded.trials["status"]) == {"complete"}
    assert score(bench, folders, "--name", "nnunet", "--to", "ext")[0] == 0  # the same again
    array, affine, *_ = read_nifti(folders[0] / "tiny_0.nii.gz")
    save(array * 0, affine, folders[0] / "tiny_0.nii.gz")
    code, _, err = score(bench, folders, "--name", "nnunet", "--to", "ext")
    assert code == 2 and "--to ext: holds other scores of" in err


def test_missing_and_extra_cases_are_all_named(bench, folders):
    for case in ("tiny_0", "tiny_1"):
        (folders[0] / f"{case}.nii.gz").rename(folders[0] / f"{case}x.nii.gz")
    refused(score(bench, folders), "2 cases: tiny_0, tiny_1", "2 cases: tiny_0x, tiny_1x", "--partial")
    code, out, err = score(bench, folders, "--partial")
    assert code == 0 and set(table(out).reset_index()["case"]) == {"tiny_2", "mean"}
    assert "1 case scored; left out: 2 without a prediction, 2 without a reference" in err


def test_monais_folders_and_endings(bench, folders, tmp_path):
    plain = table(score(bench, folders)[1])
    for case in CASES:
        target = tmp_path / "monai" / case / f"{case}_trans.nii"
        array, affine, *_ = read_nifti(folders[0] / f"{case}.nii.gz")
        save(array, affine, target, np.float32)
    code, out, _ = score(bench, (tmp_path / "monai", folders[1]), "--suffix", "_trans")
    assert code == 0 and table(out).equals(plain)


def test_labels_by_flag_by_nnunet_and_with_gaps(bench, folders, tmp_path):
    (folders[1] / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "ball": 1, "cube": 2}}))
    found = table(score(bench, folders)[1])
    assert set(found.reset_index()["label"]) == {"ball", "cube", "all"}
    assert set(table(score(bench, folders, "--labels", "2=b,1=a")[1]).reset_index()["label"]) == {"a", "b", "all"}
    for folder in (folders[0], folders[1] / "labelsTr"):
        for case in CASES:
            array, affine, *_ = read_nifti(folder / f"{case}.nii.gz")
            save(np.array([0, 3, 200])[array.astype(int)], affine, folder / f"{case}.nii.gz")
    gaps = table(score(bench, folders, "--labels", "3=ball,200=cube")[1])
    assert gaps.equals(found)
    refused(score(bench, folders, "--labels", "3=ball"), "tiny_0.nii.gz", "has the value 200", "--labels")


def test_binary_is_the_merged_foreground_with_or_without_names(bench, folders, tmp_path):
    code, out, err = score(bench, folders, "--labels", "binary", "--to", "two", "--tolerance", "1.5")
    assert code == 0, err
    found = table(out)
    assert set(found.reset_index()["label"]) == {"foreground", "all"}
    (record,) = store.read(tmp_path / "two")
    assert (record.spec.task, record.task.labels) == ("Task99_Tiny-binary", ("foreground",))
    expected = []
    for case in CASES:
        (ours, *_), (theirs, affine, *_) = (
            read_nifti(folder / f"{case}.nii.gz") for folder in (folders[0], folders[1] / "labelsTr")
        )
        merged = [(volume > 0).astype(np.uint8) for volume in (ours, theirs)]
        expected += score_case(*merged, np.linalg.norm(affine[:3, :3], axis=0), ("foreground",), case, case, 1.5)
    assert record.cases == tuple(expected)
    (folders[1] / "dataset.json").unlink()
    more = ("--labels", "binary", "--task", "Task99_Tiny", "--tolerance", "1.5")
    assert table(score(bench, folders, *more)[1]).equals(found)


@pytest.mark.parametrize("text", ["liver", "1=", "=liver", "0=background", "1=a,1=b", "1=a,2=a", "300=a", "-1=a"])
def test_labels_that_say_nothing(bench, folders, text):
    refused(score(bench, folders, "--labels", text), "--labels")


def test_no_names_at_all(bench, folders):
    (folders[1] / "dataset.json").unlink()
    refused(score(bench, (folders[0], folders[1] / "labelsTr")), "no dataset.json", "--labels 1=liver")


def damage(kind, path):
    array, affine, *_ = read_nifti(path)
    if kind == "shape":
        save(array[:-1], affine, path)
    elif kind == "affine":
        save(array, affine @ np.diag([1, 1, 1.1, 1]), path)
    elif kind == "flipped":
        save(array, affine @ np.diag([-1, 1, 1, 1]), path)
    elif kind == "fractions":
        save(array * 0.5, affine, path, np.float32)
    elif kind == "nan":
        save(np.full(array.shape, np.nan), affine, path, np.float32)
    elif kind == "value":
        save(array + 7, affine, path)
    elif kind == "four axes":
        save(np.stack([array, array], 3), affine, path)
    else:
        path.write_bytes(path.read_bytes()[:50])


@pytest.mark.parametrize("kind", ["shape", "affine", "flipped", "fractions", "nan", "value", "four axes", "cut"])
def test_every_bad_file_is_named_and_no_number_is_shown(bench, folders, kind):
    for case in ("tiny_0", "tiny_2"):
        damage(kind, folders[0] / f"{case}.nii.gz")
    refused(score(bench, folders), "out/tiny_0.nii.gz", "out/tiny_2.nii.gz")
    if kind in ("shape", "affine", "flipped"):
        refused(score(bench, folders), folders[1] / "labelsTr" / "tiny_0.nii.gz")


def test_an_affine_that_another_writer_rounded_is_the_same(bench, folders):
    """An oblique grid, written with single precision and a last digit off."""
    turn = np.array([[0.8, -0.6, 0, 5], [0.6, 0.8, 0, -7], [0, 0, 2.5, 3], [0, 0, 0, 1]])
    for folder, noise in ((folders[0], 1e-5), (folders[1] / "labelsTr", 0)):
        for case in CASES:
            path = folder / f"{case}.nii.gz"
            save(read_nifti(path).array, turn + noise, path)
    code, out, _ = score(bench, folders, "--profile", "v3")
    assert code == 0 and 0 < float(table(out).loc[("tiny_0", "blob"), "HD95 (mm)"]) <= 1.0


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--prediction", "nowhere"], "is no folder"),
        (["--prediction", "empty"], "has no .nii or .nii.gz file"),
        (["--name", "../up"], "--name"),
        (["--task", "../up", "--to", "out"], "--task '../up'"),
        (["--tolerance", "-1"], "is no distance"),
        (["--beside", "nowhere"], "no complete trial"),
    ],
)
def test_wrong_turns(bench, folders, tmp_path, flags, words):
    (tmp_path / "empty").mkdir()
    code, _, err = score(bench, folders, *flags)
    assert code == 2 and words in err and "Traceback" not in err


def external_run(bench, folders, tmp_path):
    """A run of two folds whose records are of the same references; the second has tiny_2."""
    assert score(bench, folders, "--to", "ext", "--task", "Task01_Fake")[0] == 0
    scored = store.read(tmp_path / "ext")[0].cases
    made = [
        fake.complete(fake.spec(fold=fold, split_digest=f"split{fold}", data={"tolerance": 2.0}), fake.task(),
                      tuple(replace(one, tp=0, fn=one.tp + one.fn, fp=0, tn=one.tn + one.fp, nsd=0.0, hd95=None)
                            for one in scored if (one.case == "tiny_2") == bool(fold)))
        for fold in (0, 1)
    ]  # fmt: skip
    fake.write_run(tmp_path / "run", made, previews=False)
    plan.remember(tmp_path / "run", [one.spec for one in made])
    return made


def test_beside_a_run_each_case_goes_to_its_fold(bench, folders, tmp_path):
    made = external_run(bench, folders, tmp_path)
    more = ("--task", "Task01_Fake", "--name", "nnunet", "--beside", "run")
    code, _, err = score(bench, folders, *more, "--to", "two")
    assert code == 0, err
    ours = {record.spec.fold: record for record in store.read(tmp_path / "two")}
    assert {one.case for one in ours[0].cases} == {"tiny_0", "tiny_1"} and {one.case for one in ours[1].cases} == {
        "tiny_2"
    }
    assert [ours[fold].spec.split_digest for fold in ours] == ["split0", "split1"] and ours[
        0
    ].spec.data_digest == "data00"
    code, _, err = bench("report", "run", "two", "--to", "both")
    assert code == 0, err
    merged = results.load("both").scores
    assert merged.groupby("arm")["case"].nunique().to_dict() == {"none": 3, "nnunet (external)": 3}
    refused(score(bench, folders, *more, "--tolerance", "1"), "give --tolerance 2.0")
    array, affine, *_ = read_nifti(folders[1] / "labelsTr" / "tiny_1.nii.gz")
    save(np.minimum(array, 1), affine, folders[1] / "labelsTr" / "tiny_1.nii.gz")
    refused(score(bench, folders, *more), "references differ", "tiny_1, blob", "tiny_1, dot")
    assert len(made) == 2


def test_beside_a_run_patients_are_the_runs(bench, folders, tmp_path):
    for record in external_run(bench, folders, tmp_path):
        store.write(tmp_path / "named", replace(record, cases=tuple(replace(one, patient="p") for one in record.cases)))
    code, _, err = score(bench, folders, "--task", "Task01_Fake", "--beside", "named", "--to", "two")
    assert code == 0, err
    assert set(pd.read_csv("two/results.csv")["patient"]) == {"p"}


def test_a_runs_own_folder_and_a_file_are_left_alone(bench, folders, tmp_path):
    external_run(bench, folders, tmp_path)
    refused(score(bench, folders, "--to", "run"), "--to run: holds trials of a run")
    (tmp_path / "run/plan.json").unlink()
    refused(score(bench, folders, "--to", "run"), "--to run: holds trials of a run")
    plan.remember(tmp_path / "planned", [fake.spec()])
    refused(score(bench, folders, "--to", "planned"), "--to planned: holds trials of a run")
    (tmp_path / "file").touch()
    refused(score(bench, folders, "--to", "file"), "--to file: is a file; give a folder")


def test_two_names_in_one_folder_both_stay(bench, folders):
    for name in ("nnunet", "monai"):
        assert score(bench, folders, "--name", name, "--to", "ext")[0] == 0
    assert pd.read_csv("ext/results.csv")["backbone"].value_counts().to_dict() == {"nnunet": 6, "monai": 6}
    assert len(pd.read_parquet("ext/results.parquet")) == 12


def test_rescore_counts_what_changed(bench, tmp_path):
    made = fake.records(1)
    run = fake.write_run(tmp_path / "run", made, previews=False)
    plan.remember(run, [one.spec for one in made])
    code, out, _ = bench("rescore", "run")
    assert code == 0 and "run/results.csv: written, there was none" in out and (run / "report/index.html").exists()
    fresh = (run / "results.csv").read_bytes()
    assert "0 of 180 values changed\n" in bench("rescore", "run")[1]
    frame = pd.read_csv(run / "results.csv")
    frame.loc[0, "dice"], frame.loc[1, "nsd"], frame.loc[2, "dice"] = 0.123, 0.5, np.nan
    frame.drop(index=5).drop(columns="recall").to_csv(run / "results.csv", index=False)
    code, out, _ = bench("rescore", "run")
    assert code == 0 and "3 of 154 values changed: dice 2, nsd 1\n" in out
    assert "1 rows new\n" in out and "columns new: recall\n" in out
    assert (run / "results.csv").read_bytes() == fresh
    (run / "results.csv").write_text("no table\n1\n")
    refused(bench("rescore", "run"), "run/results.csv: is no table of scores")


def test_rescore_needs_a_run(bench, tmp_path):
    refused(bench("rescore", "nowhere"), "is no run folder")
    plan.remember(tmp_path / "planned", [fake.spec()])
    refused(bench("rescore", "planned"), "has no trial record yet")
