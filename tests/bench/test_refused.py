"""What the door refuses: one line that names the flag, or the file and its key, as they were given."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.study import StudySpec, bind


@pytest.mark.parametrize("setting", ["train.lr", "train.clip", "train.weight_decay", "train.warmup", "model.mlp_ratio"])
@pytest.mark.parametrize("value", ["inf", "-inf", "nan"])
def test_floats_are_finite(bench, setting, value):
    refused(bench("plan", "--set", f"{setting}={value}"), f"--set {setting}: '{value}' is not a finite number")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--steps", "0"], "--steps: 0 is not a positive whole number"),
        (["--budget", "0s"], "--budget: '0s': the number must be above 0"),
        (["--budget", "9" * 400 + " steps"], "--budget: '999"),
        (["--budget", "5x"], "--budget: '5x' is not a budget such as 90s, 10m, 2h, `500 steps` or `20 epochs`"),
        (["--attention", "foo"], "--attention: unknown value 'foo'; known: global, hybrid"),
        (["--attention", "global,foo"], "--attention: unknown value 'foo'; known: global, hybrid"),
        (["--attention", ""], "--attention: no value is given"),
        (["--residual", "maybe"], "--residual: 'maybe' is not true or false"),
        (["--mapper-lora", "4.5"], "--mapper-lora: '4.5' is not a whole number"),
        (["--mapper-lora", "-1"], "--mapper-lora: -1 is not a whole number from 0"),
        (["--set", "model.image=8,8,x"], "--set model.image: '8,8,x' is not a list of whole numbers such as 32,32,32"),
        (["--set", "data.overlap=1"], "--set data.overlap: 1.0 is outside [0, 1)"),
        (["--set", "model.mlp_ratio=1e308"], "--set model.mlp_ratio: 1e+308 leaves the MLP no number of hidden units"),
        (["--set", "train.step=1"], "--set train.step: unknown setting; known: augment, batch,"),
        (["--set", "train.steps=1", "--steps", "0"], "--steps: 0 is not"),
        (["--checkpoint-every", "5x"], "--checkpoint-every: '5x' is not an interval such as 30s, 5m, `500 steps` or"),
        (["--workers-per-trial", "0"], "--workers-per-trial: 0 is below 1"),
        (["--fraction", "2"], "--fraction: [2.0] must be above 0"),
        (["--address", "127.0.0.1:99999"], "--address: '127.0.0.1:99999' is no address"),
    ],
    ids=lambda given: " ".join(given)[:30] if isinstance(given, list) else "",
)
def test_the_flag_is_named(bench, flags, words):
    refused(bench("plan", *flags), words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[train]\nlr = inf", "train.lr: inf is not a finite number"),
        ("[train]\nlr = nan", "train.lr: nan is not a finite number"),
        ("[train]\nsteps = inf", "train.steps: inf is not a whole number"),
        ("[train]\nbatch = true", "train.batch: True is not a whole number"),
        ("[train]\nclip = true", "train.clip: True is not a finite number"),
        ("[train]\nschedule = false", "train.schedule: False is not a text"),
        ("[model]\nimage = [8, 8, 8.5]", "model.image: [8, 8, 8.5] is not a list of whole numbers"),
        ("[model]\nimage = [true, 8, 8]", "model.image: [True, 8, 8] is not a list of whole numbers"),
        ("[model]\nresidual = 2", "model.residual: 2 is not true or false"),
        ("[preparation]\noverlap = 1", "preparation.overlap: 1.0 is outside"),
        ("[variants]\nfusion = []", "variants.fusion: no value is given"),
        ("[variants]\nfusion = ['none', 'some']", "variants.fusion: unknown value 'some'"),
        ("workers_per_trial = 0", "workers_per_trial: 0 is below 1"),
        ("fractions = [2.0]", "fractions: [2.0] must be above 0"),
        ("checkpoint_every = '5x'", "checkpoint_every: '5x' is not an interval"),
    ],
)
def test_the_file_and_its_key_are_named(bench, tmp_path, text, words):
    (tmp_path / "mine.toml").write_text(text)
    refused(bench("plan", "--study", "mine.toml"), f"mine.toml: {words}")


def test_a_flag_that_wins_over_the_file_is_the_one_that_is_named(bench, tmp_path):
    (tmp_path / "mine.toml").write_text("workers_per_trial = 1\n[train]\nsteps = 5\n[variants]\nfusion = ['none']\n")
    refused(bench("plan", "--study", "mine.toml", "--steps", "0"), "--steps: 0 is not")
    refused(bench("plan", "--study", "mine.toml", "--fusion", "some"), "--fusion: unknown value 'some'")
    refused(bench("plan", "--study", "mine.toml", "--workers-per-trial", "0"), "--workers-per-trial: 0 is below 1")


def test_a_run_folders_own_file_is_named(bench, tmp_path):
    bind(StudySpec(), tmp_path / "run")
    path = tmp_path / "run" / "study.toml"
    path.write_text(path.read_text().replace("steps = 36", "steps = 0"))
    refused(bench("plan", "--out", "run"), "run/study.toml: train.steps: 0 is not a positive whole number; it says")


@pytest.mark.parametrize("command", ["run", "plan"])
@pytest.mark.parametrize("out", ["/dev/null", "/dev/null/x", "mine.txt/x/y", "x" * 300, "dangling/x"])
def test_a_run_folder_that_cannot_be_made_is_told(bench, tmp_path, command, out):
    (tmp_path / "mine.txt").write_text("")
    (tmp_path / "dangling").symlink_to(tmp_path / "mine.txt")
    refused(bench(command, "--out", out), f"--out {out}: cannot be made or written to (")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dangling", "mine.txt"]


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no folder that refuses even root")
@pytest.mark.parametrize("out", ["/proc/x", "/proc/self"])
def test_a_run_folder_that_even_root_cannot_make_is_told(bench, tiny_msd, out):
    refused(bench("run", "--data", tiny_msd, "--out", out), f"--out {out}: cannot be made or written to (")


@pytest.mark.parametrize("text", ["25s", "-1", "nan", "inf"])
def test_the_time_to_stop_is_read_before_anything_begins(bench, monkeypatch, tmp_path, text):
    monkeypatch.setenv("BENCH_GRACE", text)
    refused(bench("run", "--out", "run"), f"BENCH_GRACE: '{text}' is not a number of seconds such as 25")
    assert not (tmp_path / "run").exists()


def test_a_data_folder_that_is_not_there_is_told_with_what_makes_one(bench):
    code, _, err = bench("plan", "--data", "no where")
    assert code == 2 and "`python -m bench data sample --to 'no where'` makes a small one" in err


def refused(done: tuple[int, str, str], words: str) -> None:
    """Beside the error there may be what was looked at before."""
    code, out, err = done
    (line,) = (line for line in err.splitlines() if "cases" not in line)
    assert code == 2 and line.startswith(f"error: {words}"), out + err
