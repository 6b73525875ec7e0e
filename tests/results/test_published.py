"""Published numbers: every one has its source and protocol, and what is unknown is missing."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pandas as pd
import pytest

from results import published

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def table():
    return published.load()


def test_columns_and_kinds(table):
    assert tuple(table.columns) == published.COLUMNS
    assert table["value"].dtype == table["sd"].dtype == float
    words = table.drop(columns=["value", "sd"])
    assert words.map(lambda cell: isinstance(cell, str)).all(axis=None)
    assert not words.map(lambda cell: cell != cell.strip()).any(axis=None)


def test_every_number_says_where_it_is_from_and_how_it_was_made(table):
    for column in ("source", "protocol", "system", "task", "metric"):
        assert (table[column] != "").all(), column
    once = ["source", "system", "task", "label", "metric"]
    assert not table.duplicated(once).any()


def test_numbers_are_in_the_range_of_their_unit(table):
    ratios = table[table["unit"] == "ratio"]["value"].dropna()
    assert len(ratios) > 30 and ratios.between(0, 1).all()
    assert table[table["unit"] == "%"]["value"].between(0, 100).all()
    assert (table["sd"].dropna() > 0).all()


def test_what_is_unknown_is_missing_and_says_so(table):
    unknown = table[table["value"].isna()]
    assert set(unknown["metric"]) == {"jaccard", "precision"}
    assert unknown["source"].str.contains("v1").all() and unknown["note"].str.contains("not known").all()
    assert table[table["source"].str.contains("v1")]["sd"].isna().all()


def test_the_claim_that_is_to_be_checked(table):
    claim = table[table["source"].str.contains("v3") & (table["metric"] == "dice")].set_index("system")
    assert tuple(claim.loc["ViT baseline", ["value", "sd"]]) == (0.74, 0.05)
    assert tuple(claim.loc["MedVisionLlama", ["value", "sd"]]) == (0.87, 0.04)


def test_nnunet_has_every_foreground_class_of_the_ten_tasks(table):
    classes = table[table["source"] == "nnU-Net"].groupby("task")["label"].nunique()
    assert len(classes) == 10 and classes.sum() == 17
    assert classes["Task01_BrainTumour"] == 3 and classes["Task09_Spleen"] == 1


def test_every_file_is_read_and_part_of_the_package(table):
    files = list((ROOT / "results" / "published").iterdir())
    assert sum(len(pd.read_csv(file)) for file in files) == len(table)
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["results"]
    assert all(any((Path("published") / file.name).match(pattern) for pattern in data) for file in files)


def test_import_results_stays_light():
    code = "import sys, results; print([name for name in ('pandas', 'scipy', 'statsmodels') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
