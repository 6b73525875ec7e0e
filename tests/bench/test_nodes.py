"""What is found on a node before the first trial, and how many trials the nodes have room for."""

from __future__ import annotations

import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backbones.weights import BlockFile
from bench import plan, preflight
from bench.launch import cluster, nodes, resources
from bench.running import StudyError
from bench.study import StudySpec
from bench.trial import TrialJob


@pytest.fixture
def jobs(tmp_path, make_task, cache) -> list[TrialJob]:
    make_task(tmp_path / "data")
    study = StudySpec(data=str(tmp_path / "data"), out=str(tmp_path / "run"))
    study.run.mkdir()
    made = plan.expand(study, preflight.check(study, lambda line: None))
    block = tmp_path / "block.safetensors"
    block.write_bytes(b"x")
    return [replace(job, block=BlockFile(block, 3, "", "", "", "little")) for job in made]


@pytest.fixture
def needs(jobs, tmp_path) -> nodes.Needs:
    mark = tmp_path / "run" / ".seen"
    mark.touch()
    return nodes.needs_of(jobs, mark)


def test_a_node_that_has_everything_has_no_problem(needs):
    seen = nodes.look(needs)
    assert seen.problems == () and seen.free > 0 and len(needs.files) == 12


def without_data(needs: nodes.Needs, root: Path) -> str:
    shutil.rmtree(root / "data")
    return f"the data {root / 'data'} are not there"


def without_an_image(needs: nodes.Needs, root: Path) -> str:
    path = root / "data" / "Task99_Tiny" / "imagesTr" / "tiny_3.nii.gz"
    path.unlink()
    return f"1 of 12 data files are missing, first {path}"


def with_another_image(needs: nodes.Needs, root: Path) -> str:
    path = root / "data" / "Task99_Tiny" / "labelsTr" / "tiny_3.nii.gz"
    path.write_bytes(b"short")
    return f"1 of 12 data files are of another size, first {path}"


def without_the_block(needs: nodes.Needs, root: Path) -> str:
    (root / "block.safetensors").unlink()
    return "the block of little"


def with_another_run_folder(needs: nodes.Needs, root: Path) -> str:
    shutil.rmtree(root / "run")
    (root / "run").mkdir()
    return f"the run folder {root / 'run'} is not that of this command; give an --out that all nodes share"


@pytest.mark.parametrize(
    "damage",
    [without_data, without_an_image, with_another_image, without_the_block, with_another_run_folder],
    ids=lambda damage: damage.__name__,
)
def test_what_a_node_lacks_is_one_line(needs, tmp_path, damage):
    words = damage(needs, tmp_path)
    (problem,) = nodes.look(needs).problems
    assert words in problem, problem


@pytest.mark.parametrize("name", ["torch", "Python", "this code"])
def test_another_version_is_named(needs, name):
    (problem,) = nodes.look(replace(needs, versions=needs.versions | {name: "0.0"})).problems
    assert problem.startswith(f"{name} is {needs.versions[name]} there and 0.0 here"), problem


def test_a_full_disk_is_told(needs, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 12_000_000))
    (problem,) = nodes.look(needs).problems
    assert needs.cache in problem and "12 MB free" in problem


def test_a_search_asks_for_no_run_folder(jobs):
    alone = nodes.needs_of(jobs, None)
    assert alone.files and nodes.look(alone).problems == ()


def test_a_node_that_only_manages_needs_no_data(needs, tmp_path):
    shutil.rmtree(tmp_path / "data")
    assert nodes.look(replace(needs, data="", files={}, blocks={})).problems == ()


def test_all_problems_are_told_at_once(needs, tmp_path):
    for damage in (without_data, without_the_block, with_another_run_folder):
        damage(needs, tmp_path)
    assert len(nodes.look(needs).problems) == 3


NODES = st.lists(
    st.builds(lambda c, g: {"CPU": float(c), "GPU": float(g)}, st.integers(0, 9), st.integers(0, 4)), max_size=4
)


def job(workers: int = 1, cpus: int = 0, gpus: float | None = None):
    return type("Job", (), {"workers": workers, "cpus": cpus, "gpus": gpus})


@given(NODES, st.integers(1, 3), st.integers(0, 4), st.sampled_from([None, 0, 0.25, 0.5, 1]))
def test_so_many_trials_fit_and_no_more(there, workers, cpus, gpus):
    """Workers are laid on nodes one by one; a trial waits unless all of its workers have a place."""
    share = gpus if gpus is not None else float(any(node["GPU"] for node in there))
    free, placed = [dict(node) for node in there], 0
    while any(node["CPU"] >= max(1, cpus) and node["GPU"] + 1e-9 >= share for node in free):
        node = next(node for node in free if node["CPU"] >= max(1, cpus) and node["GPU"] + 1e-9 >= share)
        node["CPU"] -= max(1, cpus)
        node["GPU"] -= share
        placed += 1
    one = job(workers, cpus, gpus)
    if placed < workers:
        with pytest.raises(StudyError, match=f"--workers-per-trial: {workers} workers need .* room for {placed}"):
            resources.slots(one, there)
    else:
        assert resources.slots(one, there) == placed // workers


@given(st.lists(st.integers(1, 16), min_size=1, max_size=4), st.data())
def test_idle_cores_are_shared_out_so_that_all_trials_still_run_at_once(cpus, data):
    trials = data.draw(st.integers(1, sum(cpus)))
    each = resources.cores_each(cpus, trials)
    assert sum(cores // each for cores in cpus) >= trials
    assert each == max(cpus) or sum(cores // (each + 1) for cores in cpus) < trials


def test_a_cluster_that_does_not_answer_is_named(bench, tiny_msd):
    code, out, err = bench("run", "--data", tiny_msd, "--out", "run", "--address", "127.0.0.1:9")
    assert code == 2 and "error: --address 127.0.0.1:9: nobody answers there" in err, out + err
    assert "ray start --head" in err and "Traceback" not in err


#: What Ray 2.60 says where two clusters on a machine gave the servers of their clients the same port.
NO_SERVER = (
    "Initialization failure from server:\nTraceback (most recent call last):\n"
    "RuntimeError: Starting Ray client server failed. See ray_client_server_23001.err for detailed logs.\n",
    "Initialization failure from server:\nTraceback (most recent call last):\n"
    "psutil.ZombieProcess: PID still exists but it's a zombie (pid=30464)\n",
    "Request can't be sent. Last exception: <_MultiThreadedRendezvous of RPC that terminated with:\n"
    '\tdetails = "Attempted to reconnect a session that has already been cleaned up"\n>',
)


@pytest.mark.parametrize("said", NO_SERVER)
def test_a_client_without_a_server_tries_once_more_and_then_says_so(bench, tiny_msd, monkeypatch, said):
    tried = []

    def fail(*_: object, **__: object) -> None:
        tried.append(1)
        raise ConnectionAbortedError(said)

    monkeypatch.setattr(cluster.ray, "init", fail)
    monkeypatch.setattr(cluster, "_knock", lambda address: None)
    code, out, err = bench("run", "--data", tiny_msd, "--out", "run", "--address", "ray://127.0.0.1:9")
    assert code == 2 and "the head could start no server for this client (" in err and len(tried) == 2, out + err
    assert "the same command may do" in err and "Traceback" not in err and "token" not in err


def test_a_client_that_is_turned_away_for_another_reason_does_not_try_again(bench, tiny_msd, monkeypatch):
    tried = []

    def fail(*_: object, **__: object) -> None:
        tried.append(1)
        raise ConnectionError("no")

    monkeypatch.setattr(cluster.ray, "init", fail)
    monkeypatch.setattr(cluster, "_knock", lambda address: None)
    code, out, err = bench("run", "--data", tiny_msd, "--out", "run", "--address", "ray://127.0.0.1:9")
    assert code == 2 and "RAY_AUTH_TOKEN" in err and tried == [1], out + err
