"""Settings that a study varies: each combination is an arm, in the plan, in records and in tables."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import plan, variants
from bench.commands.asked import VARIED
from bench.study import StudyError, StudySpec, bind, check_bound, load
from bench.trial import attempt
from results import store, summary
from results.arms import arm_key, arm_names, titles
from results.record import Status
from tests.bench.trial_room import SMALL, jobs_of

EXAMPLE = Path(__file__).parents[2] / "examples" / "ablation.toml"
SWITCHES = {"attention": ("global", "hybrid"), "fusion": ("none", "multiscale")}


@pytest.fixture
def study(tiny_msd, tmp_path) -> StudySpec:
    return StudySpec(
        backbones=("none",), data=str(tiny_msd), settings=SMALL, variants=SWITCHES, out=str(tmp_path / "run")
    )


@given(st.dictionaries(st.sampled_from("abcd"), st.lists(st.integers(), min_size=1, max_size=3, unique=True)))
def test_combinations_are_each_one_once(lists):
    found = variants.combinations({name: tuple(values) for name, values in lists.items()})
    sizes = [len(values) for values in lists.values()]
    product = 1
    for size in sizes:
        product *= size
    assert len(found) == product == len({tuple(sorted(one.items())) for one in found})
    assert all(one[name] in lists[name] for one in found for name in lists)


def test_the_example_has_four_arms_with_names_of_their_own():
    asked = StudySpec(**load(EXAMPLE))
    jobs = jobs_of(asked)
    names = arm_names(job.spec for job in jobs)
    assert [names[arm_key(job.spec)] for job in jobs] == [
        f"none, attention {attention}, fusion {fusion}"
        for attention in ("global", "hybrid")
        for fusion in ("none", "multiscale")
    ]
    assert len(set(titles(job.spec for job in jobs).values())) == 4
    assert len({job.spec.key for job in jobs}) == 4 and {job.spec.train["steps"] for job in jobs} == {24}


def test_each_variant_is_trained_recorded_and_tabled(study):
    jobs = jobs_of(study)
    plan.remember(study.run, [job.spec for job in jobs])
    records = [attempt(job, lambda entry, share: None) for job in jobs]
    assert [record.status for record in records] == [Status.COMPLETE] * 4, [record.error for record in records]
    assert len({str(record.curve) for record in records}) == 4
    trials = summary.trial_table(store.read(study.run), plan.expected(study.run))
    tasks = summary.by_task(summary.case_scores(summary.long_table(records), trials), trials)
    assert len(tasks) == 4 and set(tasks["n of expected"]) == {"1 of 1"}


def test_a_control_is_run_in_every_variant_and_the_baseline_once_where_only_the_joint_is_varied(study):
    several = {"placement": ("after", "middle+after"), "residual": ("true", "false")}
    asked = replace(study, backbones=("gpt2",), weights={"*": "random"}, controls=("mlp",), variants=several)
    controls = [job.spec.control for job in jobs_of(asked)]
    assert controls == ["none", *["random"] * 4, *["mlp"] * 4]
    alone = replace(asked, variants={}, settings=SMALL | {"model": SMALL["model"] | {"placement": "before"}})
    assert jobs_of(alone)[0].spec.digest == jobs_of(asked)[0].spec.digest


def test_a_run_folder_takes_further_values_of_what_is_varied_and_refuses_other_changes(study):
    bind(study, study.run)
    assert load(study.run / "study.toml")["variants"] == SWITCHES
    again = StudySpec(**load(study.run / "study.toml"), out=study.out)
    assert [job.spec.digest for job in jobs_of(again)] == [job.spec.digest for job in jobs_of(study)]
    fewer = replace(study, variants={}, settings=SMALL | {"model": SMALL["model"] | SWITCHES_OFF})
    check_bound(fewer, study.run)
    assert jobs_of(fewer)[0].spec.digest == jobs_of(study)[0].spec.digest
    check_bound(replace(study, variants=SWITCHES | {"decoder": ("skip", "linear")}), study.run)
    with pytest.raises(StudyError, match=r"model\.width"):
        check_bound(replace(study, settings=SMALL | {"model": SMALL["model"] | {"width": 32}}), study.run)


SWITCHES_OFF = {"attention": "global", "fusion": "none"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"attension": ("global",)}, "variants.attension: unknown setting of .model.; known: attention, decoder"),
        ({"classes": (2, 3)}, "variants.classes: unknown setting"),
        ({"fusion": ()}, "variants.fusion: no value is given"),
        ({"mapper_lora": ("4", 4)}, "variants.mapper_lora: 4, 4: a value is given twice"),
        ({"attention": ("global", "local")}, "model.attention: unknown value 'local'; known: global, hybrid"),
        ({"residual": ("true", "perhaps")}, "model.residual: 'perhaps' is not true or false"),
    ],
)
def test_what_cannot_be_varied_is_named(given, words):
    with pytest.raises(StudyError, match=words):
        StudySpec(variants=given)


def test_a_table_of_variants_must_be_one(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text("variants = ['attention']")
    with pytest.raises(StudyError, match=r"variants is .*; it must be a table of SETTING"):
        load(path)


def planned(*arguments: str) -> str:
    line = [sys.executable, "-m", "bench", "plan", "--backbones", "none", "--tasks", "Task09_Spleen", *arguments]
    return subprocess.run(line, capture_output=True, text=True, check=True, timeout=120).stdout


def test_flags_take_several_values_and_win_over_the_file():
    assert "4 trials" in planned("--attention", "global,hybrid", "--decoder", "skip,subpixel")
    assert "2 trials" in planned("--study", str(EXAMPLE), "--attention", "hybrid")
    assert "1 trials" in planned("--placement", "after,middle+after", "--residual", "true,false")
    assert set(VARIED) >= {"attention", "fusion", "placement", "residual"}


@pytest.mark.slow
def test_the_example_runs_from_one_command(tmp_path):
    line = [sys.executable, "-m", "bench", "run", "--study", str(EXAMPLE), "--out", str(tmp_path / "run")]
    done = subprocess.run(line, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0 and "4 of 4 trials complete" in done.stdout, done.stdout + done.stderr
    table = pd.read_csv(tmp_path / "run" / "report" / "tables" / "by_task.csv")
    assert len(table) == 4
