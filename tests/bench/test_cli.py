"""At the door: what a user types, what is printed, what the exit code is."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench.cli import cli
from tests.backbones import tiny
from tests.bench.door import bench
from tests.data.nifti_files import rewrite

HEAVY = ("torch", "transformers", "ray", "deepspeed", "monai", "pandas", "matplotlib")


def test_a_command_in_a_process_of_its_own():
    command = [sys.executable, "-m", "bench", "plan", "--backbones", "lama3"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: unknown backbone 'lama3'; did you mean 'llama3'?")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["run", "--help"],
        ["tune", "--help"],
        ["list", "tasks"],
        ["list", "backbones"],
        ["list", "references"],
    ],
)
def test_help_and_lists_import_nothing_heavy(arguments):
    probe = (
        "import sys; sys.argv = ['bench', *sys.argv[1:]]\n"
        "from bench.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        f"print('HEAVY', [name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", probe, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "HEAVY []"
    assert len(done.stdout.splitlines()) > 8


def test_every_command_has_help_with_an_example():
    for command in cli.commands.values():
        for part in [command, *getattr(command, "commands", {}).values()]:
            if not hasattr(part, "commands"):
                assert "python -m bench" in (part.epilog or ""), part.name


def copy_of(tiny_msd: Path, tmp_path: Path) -> Path:
    root = tmp_path / "data"
    shutil.copytree(tiny_msd, root)
    return root


def first(root: Path, folder: str) -> Path:
    return sorted((root / "Task99_Tiny" / folder).glob("*.nii.gz"))[0]


def no_dataset(root: Path) -> str:
    (root / "Task99_Tiny" / "dataset.json").unlink()
    return "dataset.json"


def no_label(root: Path) -> str:
    path = first(root, "labelsTr")
    path.unlink()
    return path.name


def other_shape(root: Path) -> str:
    path = first(root, "labelsTr")
    rewrite(path, lambda a: a[:-1])
    return path.name


def other_value(root: Path) -> str:
    path = first(root, "labelsTr")
    rewrite(path, lambda a: np.where(a == 1, 9, a).astype(np.uint8))
    return "9"


def truncated(root: Path) -> str:
    path = first(root, "imagesTr")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path.name


def nan_voxels(root: Path) -> str:
    path = first(root, "imagesTr")
    rewrite(path, lambda a: np.where(np.arange(a.size).reshape(a.shape) == 5, np.nan, a).astype(np.float32))
    return path.name


def one_case(root: Path) -> str:
    path = root / "Task99_Tiny" / "dataset.json"
    body = json.loads(path.read_text())
    keep = body["training"][0]
    body["training"] = [keep]
    for folder, key in (("imagesTr", "image"), ("labelsTr", "label")):
        for file in (root / "Task99_Tiny" / folder).glob("*.nii.gz"):
            if file.name != Path(keep[key]).name:
                file.unlink()
    path.write_text(json.dumps(body))
    return "two patients"


@pytest.mark.parametrize(
    "damage",
    [no_dataset, no_label, other_shape, other_value, truncated, nan_voxels, one_case],
    ids=lambda f: f.__name__,
)
def test_bad_data_is_one_line_and_exit_code_2_before_the_first_trial(tiny_msd, tmp_path, damage):
    root = copy_of(tiny_msd, tmp_path)
    named = damage(root)
    run = tmp_path / "run"
    done = bench("run", "--backbones", "none", "--data", str(root), "--out", str(run))
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr and not run.exists()
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and named in errors[0] and errors[0].count(";") >= 1, done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--backbones", "lama3"], ["unknown backbone 'lama3'", "did you mean 'llama3'"]),
        (["--backbones", "none", "--tasks", "Task99_Tinny"], ["Task99_Tinny", "Task99_Tiny"]),
        (
            ["--backbones", "llama3"],
            ["--backbones llama3", "bench weights fetch llama3", "HF_TOKEN", "--weights llama3=PATH"],
        ),
        (["--backbones", "none", "--folds", "7"], ["--folds", "7"]),
        (["--backbones", "none", "--folds", "some"], ["--folds", "'some' is not a list of whole numbers"]),
        (["--backbones", "none", "--fraction", "0"], ["--fraction", "above 0 and at most 1"]),
        (["--backbones", "none", "--fraction", "half"], ["--fraction", "0.1,0.3,1.0"]),
        (["--backbones", "none", "--labels", "merged"], ["--labels", "official", "binary"]),
        (["--backbones", "none", "--preset", "gpu"], ["--preset"]),
        (["--backbones", "none", "--steps", "0"], ["error: --steps: 0 is not a positive whole number"]),
        (["--backbones", "none", "--steps", "5", "--budget", "10m"], ["--steps 5 and --budget 10m", "leave one out"]),
        (["--backbones", "none", "--budget", "10"], ["error: --budget: '10' is not a budget", "20 epochs"]),
        (["--references", "untr"], ["--references", "did you mean 'unetr'"]),
        (["--backbones", "none", "--set", "steps=1"], ["--set"]),
        (["--backbones", "none", "--weights", "llama3=/x"], ["--weights llama3"]),
        (["--backbones", "none", "--workers-per-trial", "3"], ["--workers-per-trial: 3", "--set train.batch=3"]),
    ],
    ids=str,
)
def test_bad_flags_are_named_with_what_would_work(tiny_msd, tmp_path, arguments, words):
    done = bench("run", *arguments, "--data", str(tiny_msd), "--out", str(tmp_path / "run"))
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert all(word in done.stderr for word in words), done.stderr


@pytest.mark.parametrize("command", [["report"], ["status"]])
def test_a_folder_that_is_no_run_is_named(tmp_path, command):
    done = bench(*command, str(tmp_path))
    assert done.returncode == 2 and str(tmp_path) in done.stderr and "Traceback" not in done.stderr


def test_check_names_every_problem_at_once(tiny_msd, tmp_path):
    root = copy_of(tiny_msd, tmp_path)
    named = [truncated(root), other_value(root)]
    done = bench("data", "check", str(root))
    assert done.returncode == 1 and all(name in done.stdout for name in named)


def test_plan_runs_nothing_and_counts(tiny_msd, tmp_path):
    run = tmp_path / "run"
    done = bench("plan", "--backbones", "none", "--seeds", "0,1", "--data", str(tiny_msd), "--out", str(run))
    assert done.returncode == 0 and "2 trials, 0 complete, 2 to run" in done.stdout and not run.exists()


def test_all_folds_and_nested_fractions_are_planned(tiny_msd, tmp_path):
    flags = ["--folds", "all", "--fraction", "0.1,0.15,1.0", "--data", str(tiny_msd), "--out", str(tmp_path / "run")]
    done = bench("plan", "--backbones", "none", *flags, COLUMNS="200")
    assert done.returncode == 0 and "15 trials, 0 complete, 15 to run" in done.stdout, done.stdout + done.stderr
    assert "none, 10% of cases" in done.stdout
    assert "4–5 / 1–2" in done.stdout
    assert "--fraction 0.1 and 0.15 keep the same training cases in fold 0, 1, 2, 3, 4" in done.stdout


def test_merged_labels_are_named_in_the_plan(tiny_msd, tmp_path):
    flags = ["--data", str(tiny_msd), "--out", str(tmp_path / "run")]
    done = bench("plan", "--backbones", "none", "--labels", "binary", *flags, COLUMNS="200")
    assert done.returncode == 0 and "Task99_Tiny-binary" in done.stdout, done.stdout + done.stderr
    both = bench("plan", "--backbones", "none", "--tasks", "Task99_Tiny,Task99_Tiny-binary", *flags)
    assert "2 trials" in both.stdout
    checked = bench("data", "check", str(tiny_msd), "--tasks", "Task99_Tiny-binary", COLUMNS="200")
    assert checked.returncode == 0 and "foreground" in checked.stdout


def test_a_csv_of_ones_own_images_is_data(tiny_msd, tmp_path):
    folder, path = tiny_msd / "Task99_Tiny", tmp_path / "mine.csv"
    lines = [f"{folder}/imagesTr/tiny_{n}.nii.gz,{folder}/labelsTr/tiny_{n}.nii.gz,p{n // 2}\n" for n in range(6)]
    path.write_text("image,label,patient\n" + "".join(lines))
    done = bench("plan", "--backbones", "none", "--folds", "all", "--data", str(path), COLUMNS="200")
    assert done.returncode == 0 and "3 trials" in done.stdout and "runs/mine-cpu" in done.stdout, done.stderr
    assert "mine.csv gives no modality" in done.stdout
    assert "label 1, label 2" in bench("list", "tasks", "--data", str(path), COLUMNS="200").stdout
    assert "mine" in bench("doctor", "--data", str(path), HF_ENDPOINT="http://127.0.0.1:9").stdout
    path.write_text(path.read_text() + "nowhere.nii.gz,,p9\n")
    bad = bench("run", "--backbones", "none", "--data", str(path), "--out", str(tmp_path / "run"))
    assert bad.returncode == 2 and "mine.csv: line 8: label is empty" in bad.stderr and "Traceback" not in bad.stderr


def test_an_image_on_both_sides_of_a_split_stops_the_run(tiny_msd, tmp_path):
    images = copy_of(tiny_msd, tmp_path) / "Task99_Tiny" / "imagesTr"
    for n in range(1, 6):
        shutil.copy(images / "tiny_0.nii.gz", images / f"tiny_{n}.nii.gz")
    done = bench("run", "--backbones", "none", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "run"))
    assert done.returncode == 2 and done.stderr.count(str(images)) == 2 and "the same image" in done.stderr, done.stderr
    assert not (tmp_path / "run").exists()


def test_help_tells_what_data_may_be():
    shown = "".join(bench("run", "--help").stdout.split())  # lines break where they please
    for word in ("nnU-Net", "CSV", "patient", "labels.json", "--fraction", "binary", "everyfold"):
        assert word in shown, word


def test_doctor_looks_at_everything(tiny_msd):
    done = bench("doctor", "--data", str(tiny_msd), HF_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 0, done.stdout + done.stderr
    for word in ("torch", "cores", "GPUs", "phantom", "Task99_Tiny", "blocks here", "cannot be reached"):
        assert word in done.stdout


def test_weights_are_fetched_listed_verified_and_found_damaged(tmp_path):
    """A checkpoint folder that the registry does not know goes the whole way, without network."""
    folder = tiny.write_checkpoint(tmp_path / "Little", tiny.spec("gpt2"))
    cache = {"BENCH_CACHE": str(tmp_path / "cache")}
    done = bench("weights", "fetch", "--offline", f"{folder}@11", **cache)
    assert done.returncode == 0 and "little: block 11 of" in done.stdout, done.stdout + done.stderr
    listed = bench("weights", "list", **cache)
    assert listed.returncode == 0 and "little" in listed.stdout and "damaged" not in listed.stdout
    assert "1 of 1 blocks are good" in bench("weights", "verify", **cache).stdout

    (path,) = (tmp_path / "cache").rglob("*.safetensors")
    data = bytearray(path.read_bytes())
    data[-9] ^= 1
    path.write_bytes(data)
    done = bench("weights", "verify", "little", **cache)
    assert done.returncode == 1 and "0 of 1 blocks are good" in done.stdout and str(path) in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["weights", "fetch", "smolm2"], "did you mean 'smollm2'"),
        (["weights", "fetch", "smollm2@30"], "layers 0 to 29, not 30"),
        (["weights", "fetch", "--offline", "smollm2"], "HF_HUB_OFFLINE is set"),
        (["weights", "verify", "nobody"], "no block of 'nobody' is here"),
        (["plan", "--backbones", "gpt2", "--controls", "suffled"], "did you mean 'shuffled'"),
        (["plan", "--backbones", "gpt2", "--block-dtype", "fp8"], "error: --block-dtype: unknown value 'fp8'"),
        (["plan", "--backbones", "gpt2", "--rotary"], "has no rotary embedding"),
    ],
)
def test_wrong_requests_for_blocks_are_one_line(tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    done = bench(*arguments, BENCH_CACHE=str(tmp_path))
    assert done.returncode == 2 and words in done.stderr, done.stderr + done.stdout
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def test_block_settings_and_mapper_lora_reach_the_plan(tiny_msd, tmp_path):
    out = tmp_path / "run"
    flags = ["--block-dtype", "bf16", "--causal", "--mapper-lora", "4", "--controls", "mlp"]
    done = bench(
        "plan", "--backbones", "gpt2", "--weights", "random", "--data", str(tiny_msd), "--out", str(out), *flags
    )
    assert done.returncode == 0 and "gpt2 (matched MLP)" in done.stdout, done.stdout + done.stderr
