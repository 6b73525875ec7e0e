"""A study on a cluster of two nodes, both on this machine: by `--address`, by `ray job submit`, by `ray://`."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.cluster_room import BESIDE, EXAMPLES, FIRST, SECOND
from tests.bench.test_run import SMALL, records

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def study(data: Path, run: Path, *more: str) -> list[str]:
    return ["--backbones", "none", "--data", str(data), "--out", str(run), *SMALL, *more]


def test_a_study_runs_on_both_nodes_and_leaves_the_cluster_standing(cluster, tiny_msd):
    run = cluster.folder / "run"
    address = f"{FIRST}:{cluster.port}"
    done = cluster.bench("run", *study(tiny_msd, run, "--seeds", "0,1,2"), "--address", address)
    assert done.returncode == 0 and "3 of 3 trials complete" in done.stdout, done.stdout + done.stderr
    assert f"joining Ray at {address}" in done.stdout and "node first (127.0.0.2): 1 CPU" in done.stdout
    assert "node second (127.0.0.3): 1 CPU" in done.stdout
    assert cluster.alive()

    more = cluster.bench("run", *study(tiny_msd, run, "--seeds", "0,1,2,3"), "--address", "auto")
    assert more.returncode == 0 and "4 trials, 1 to run" in more.stdout, more.stdout + more.stderr
    two = ["--workers-per-trial", "2", "--seeds", "0"]
    both = cluster.bench("run", *study(tiny_msd, cluster.folder / "two", *two), "--address", address)
    assert both.returncode == 0 and "1 of 1 trials complete" in both.stdout, both.stdout + both.stderr
    many = cluster.bench("run", *study(tiny_msd, cluster.folder / "no"), "--address", address, "--cpus-per-worker", "2")
    assert many.returncode == 2 and "there is room for 0 (nodes: 1 CPU and 0 GPU, 1 CPU and 0 GPU)" in many.stderr
    assert cluster.alive()


def test_the_driver_may_be_far_away_or_a_job(cluster, tiny_msd):
    run = cluster.folder / "far"
    far = cluster.bench(
        "run", *study(tiny_msd, run, "--seeds", "0,1"), "--address", f"ray://127.0.0.2:{cluster.client}"
    )
    assert far.returncode == 0 and "2 of 2 trials complete" in far.stdout, far.stdout + far.stderr
    assert len(records(run)) == 2 and cluster.alive()

    run = cluster.folder / "submitted"
    sent = cluster.run(["bash", str(EXAMPLES / "submit.sh"), *study(tiny_msd, run, "--seeds", "0,1")])
    assert sent.returncode == 0 and "2 of 2 trials complete" in sent.stdout + sent.stderr, sent.stdout + sent.stderr
    assert len(records(run)) == 2 and cluster.alive()


def hides(folder: Path) -> tuple[str, ...]:
    """A prefix by which a command sees this folder empty, and all else as it is; skips where that is not allowed."""
    line = ("unshare", "-m", "sh", "-c", f'mount -t tmpfs none "{folder}" && exec "$@"', "sh")
    if not shutil.which("unshare") or subprocess.run([*line, "true"], capture_output=True, check=False).returncode:
        pytest.skip("a mount namespace may not be made here")
    return line


def test_a_node_without_the_data_is_found_before_the_first_trial(bare, tiny_msd):
    data = bare.folder / "data"
    shutil.copytree(tiny_msd, data)
    prefix = hides(data)
    bare.begin_first()
    bare.begin("node", SECOND, FIRST, "--node-name", "second", before=prefix)
    bare.wait_for(2)
    run = bare.folder / "run"
    done = bare.bench("run", *study(data, run), "--address", f"{FIRST}:{bare.port}")
    assert done.returncode == 2 and not records(run), done.stdout + done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "node second (127.0.0.3)" in errors[0] and "12 of 12 data files" in errors[0], errors
    assert "Traceback" not in done.stderr and bare.alive()


def test_another_token_is_turned_away_with_words(bare, tiny_msd):
    bare.begin_first()
    env = {k: v for k, v in bare.env.items() if k != "RAY_AUTH_TOKEN_PATH"} | {"RAY_AUTH_TOKEN": secrets.token_hex(32)}
    line = [sys.executable, "-m", "bench", "run", *study(tiny_msd, bare.folder / "run")]
    line += ["--address", f"{FIRST}:{bare.port}"]
    done = subprocess.run(line, env=env, capture_output=True, text=True, timeout=300, check=False, cwd=bare.folder)
    assert done.returncode == 2 and "RAY_AUTH_TOKEN" in done.stderr, done.stdout + done.stderr
    assert "Traceback" not in done.stderr


SRUN = f"""#!/usr/bin/env bash
# Stands for Slurm's: runs the command here, as on the node that it names. It must be told the cores, as since 22.05.
[[ " $* " == *" --cpus-per-task=$SLURM_CPUS_PER_TASK "* ]] || {{ echo "srun gives one core"; exit 1; }}
while [[ $1 == --* ]]; do [[ $1 == --nodelist=* ]] && node=${{1#*=}}; shift; done
case $node in first) ip={FIRST} ;; second) ip={SECOND} ;; esac
[[ $1 == hostname ]] && exec echo $ip
[[ $* == *--head* ]] || set -- "$@" --node-ip-address $ip
exec "$@" --node-name $node {" ".join(BESIDE)}
"""


def test_the_slurm_script_with_a_stand_in_for_srun(bare, tiny_msd):
    tools = bare.folder / "bin"
    tools.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", "#!/bin/sh\nprintf 'first\\nsecond\\n'\n")):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    slurm = {"SLURM_JOB_NODELIST": "first,second", "SLURM_JOB_ID": str(bare.port), "SLURM_CPUS_PER_TASK": "1"}
    env = {k: v for k, v in bare.env.items() if not k.startswith("RAY_AUTH")} | slurm
    env |= {"PATH": f"{tools}{os.pathsep}{env['PATH']}", "TMPDIR": str(bare.folder)}
    run = bare.folder / "run"
    line = ["bash", str(EXAMPLES / "study.sbatch"), *study(tiny_msd, run, "--seeds", "0,1")]
    with (bare.folder / "out.log").open("wb") as log:
        going = subprocess.Popen(line, env=env, stdout=log, stderr=log, cwd=bare.folder, start_new_session=True)
        bare.started.append(going)
        code = going.wait(400)
    told = (bare.folder / "out.log").read_text()
    assert code == 0 and "2 of 2 trials complete" in told and "node second (127.0.0.3): 1 CPU" in told, told
