"""A search that was stopped, or whose samples failed, diverged or are weak: what is kept, and how it goes on."""

from __future__ import annotations

import tomllib

import bench.tuning.tune as tuning
from bench.tuning.samples import Sample, State, read
from bench.tuning.search import Wish
from tests.bench.tune_room import one_by_one


def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(tune, tiny_msd, tmp_path, monkeypatch):
    def interrupted(search, wish, todo, before, on_sample):
        one_by_one(search, wish, todo[:1], before, on_sample)
        on_sample(todo[1], 0.0)
        raise KeyboardInterrupt

    arguments = ["--data", tiny_msd, "--search", "lr=1e-4..1e-2", "--samples", "3", "--out", "search"]
    with monkeypatch.context() as patch:
        patch.setattr(tuning, "_on_ray", lambda *_: interrupted)
        code, out, _ = tune(*arguments)
    assert code == 130 and "stopped; what was searched is kept" in out and "1 complete, 1 running" in out
    assert not (tmp_path / "search" / "tuned.toml").exists()
    (first, _) = read(tmp_path / "search")
    code, out, _ = tune(*arguments)
    assert code == 0 and "3 samples by asha, 2 to run" in out and (tmp_path / "search" / "tuned.toml").exists()
    assert read(tmp_path / "search")[0] == first
    code, _, err = tune(*arguments, "--method", "random")
    assert code == 2 and "was begun with method = 'asha', the command has 'random'" in err and "--out" in err


def test_a_sample_that_diverges_does_not_end_the_search_and_is_not_tried_again(tune, tiny_msd, tmp_path):
    wild = ["--set", "train.clip=1e30", "--set", "train.warmup=0"]
    arguments = ["--data", tiny_msd, "--search", "lr=1e-3,1e30", "--method", "random", "--out", "search", *wild]
    code, out, _ = tune(*arguments)
    assert code == 0 and "1 complete" in out and "1 diverged" in out and ", lr 1e+30: " in out
    assert tomllib.loads((tmp_path / "search" / "tuned.toml").read_text())["train"]["lr"] == 1e-3
    assert "2 samples by random, 0 to run" in tune(*arguments)[1]


def test_a_sample_that_fails_is_tried_again_and_without_a_winner_nothing_is_written(
    tune, tiny_msd, tmp_path, monkeypatch
):
    arguments = ["--data", tiny_msd, "--search", "lr=1e-3", "--method", "random", "--out", "search"]
    with monkeypatch.context() as patch:
        patch.setattr("bench.trial.assemble", lambda *_: (_ for _ in ()).throw(MemoryError("out of memory")))
        code, out, _ = tune(*arguments)
    assert code == 1 and "failed: sample 1, lr 0.001: MemoryError: out of memory" in out
    assert not (tmp_path / "search" / "tuned.toml").exists()
    code, out, _ = tune(*arguments)
    assert code == 0 and "1 samples by random, 1 to run" in out


def test_asha_goes_on_from_the_samples_of_an_earlier_run():
    """Without a start of Ray: the scheduler itself, told of three good samples, stops a weak one at its first rung."""
    from types import SimpleNamespace

    from bench.launch.search import _asha
    from bench.tuning.samples import Rung

    shares = Wish().shares
    assert [round(share, 3) for share in shares] == [0.111, 0.333, 1]
    known = [Sample(n, {}, State.STOPPED, (Rung(0.15, 3, 0.5 + n / 100),)) for n in range(3)]
    for before, dice, decision in ((known, 0.1, "STOP"), (known, 0.9, "CONTINUE"), ([], 0.1, "CONTINUE")):
        asha, trial = _asha(shares, before), SimpleNamespace(trial_id="new")
        asha.on_trial_add(None, trial)
        assert asha.on_trial_result(None, trial, {"resource": 1, "dice": dice}) == decision
