"""`bench tune`: plan a search, run what is missing of it on Ray, show the best, write the winner."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.table import Table

from bench import on_ray, plan
from bench.holder import check_place, held
from bench.progress import TrialProgress, to_stderr
from bench.stopping import Stop
from bench.study import StudyError, StudySpec
from bench.tuning import samples as store
from bench.tuning.samples import ENDED, OnSample, Sample, State, best_first
from bench.tuning.search import Search, Wish, make_search
from bench.tuning.space import draw, size
from bench.tuning.winner import check_target, write_winner

#: How many of the best samples are shown.
_SHOWN = 5
_KEPT = on_ray.Kept("what was searched is kept", "what was searched is kept")


class Runner(Protocol):
    """Runs samples to their ends. before are those that have ended in an earlier run of the same search."""

    def __call__(
        self, search: Search, wish: Wish, todo: Sequence[Sample], before: Sequence[Sample], on_sample: OnSample
    ) -> None: ...


def tune(study: StudySpec, wish: Wish, to: Path | None, console: Console, runner: Runner | None = None) -> int:
    """Search, then write the winner as a TOML study.

    0 when there is a winner, 1 when there is none or samples were not run, 130 after Ctrl-C, 143 after SIGTERM.
    StudyError for bad input, before anything is trained. runner is what runs samples: Ray if it is left out.
    """
    _check_installed(wish.method)
    if to:
        check_target(to)
    search = make_search(study, wish, console.log if console.is_terminal else to_stderr)
    run = Path(study.out or f"runs/tune-{search.task}-{search.arm}-fold{search.study.folds[0]}")
    target = to or run / "tuned.toml"
    check_place(run)
    if (run / plan.FILE).exists():
        raise StudyError(f"--out {run}: is the run folder of a study; give another folder")
    with held(run, "search"), Stop(run) as stop:
        store.bind(run, search.identity(wish.method))
        ended = _run_missing(search, wish, run, console, stop, runner or _on_ray(study, console, stop))
    found = store.read(run)
    _say_end(search, found, console)
    if ended:
        return ended
    over = {sample.number for sample in found if sample.state is not State.RUNNING}
    if unrun := sum(sample.number not in over for sample in _planned(search, wish)):
        console.print(f"not run: {unrun} samples; the same command goes on from here", style="red", highlight=False)
        return 1
    if not (best := best_first(found)):
        console.print(f"no sample was trained to its end: nothing to write to {target}", style="red", highlight=False)
        return 1
    write_winner(target, study, search, best[0], found)
    console.print(f"the best as a study: python -m bench run --study {target}", highlight=False, markup=False)
    return 0


def _check_installed(method: str) -> None:
    if method == "optuna" and importlib.util.find_spec("optuna") is None:
        raise StudyError(
            "--method optuna: the package optuna is not installed; `pip install 'frozen-block-bench[tune]'` installs "
            "it, and --method asha needs nothing"
        )


def _on_ray(study: StudySpec, console: Console, stop: Stop) -> Runner:
    def run(search: Search, wish: Wish, todo: Sequence[Sample], before: Sequence[Sample], on_sample: OnSample) -> None:
        from bench.launch.search import run_search

        # Samples are stored by this process: no node has to see the run folder.
        on_ray.begin(study, lambda: search.jobs, _KEPT, stop, console, shared=False)
        run_search(search, wish, todo, before, study.max_concurrent, on_sample, stop)

    return run


def _run_missing(search: Search, wish: Wish, run: Path, console: Console, stop: Stop, runner: Runner) -> int:
    """Run the samples that have not ended yet; 0, or the exit code of what ended it early."""
    drawn = _planned(search, wish)
    before = [sample for sample in store.read(run) if sample.state in ENDED]
    over = {sample.number for sample in before}
    todo = [sample for sample in drawn if sample.number not in over]
    _say_ground(search, wish, drawn, todo, console)
    if not todo:
        return 0
    titles = {str(sample.number): _title(sample) for sample in todo}
    kept = dict[int, tuple[State, int]]()

    def work() -> None:
        with TrialProgress(titles, console, "samples") as progress:

            def on_sample(sample: Sample, share: float) -> None:
                if kept.get(sample.number) != (now := (sample.state, len(sample.rungs))):
                    store.write(run, sample)
                    kept[sample.number] = now
                progress.update(str(sample.number), share, failed=sample.state is State.FAILED)

            runner(search, wish, todo, before, on_sample)

    return on_ray.exit_code(work, _KEPT, stop, console)


def _planned(search: Search, wish: Wish) -> list[Sample]:
    """Every sample of the search, from 1. What Optuna will choose is known when it has chosen."""
    if wish.method == "optuna":
        return [Sample(number, {}) for number in range(1, wish.samples + 1)]
    drawn = draw(search.space, wish.samples, search.study.seeds[0])
    return [Sample(number, values) for number, values in enumerate(drawn, start=1)]


def _title(sample: Sample) -> str:
    return ", ".join([f"sample {sample.number}", *(f"{name} {value}" for name, value in sample.values.items())])


def _say_ground(search: Search, wish: Wish, drawn: list[Sample], todo: list[Sample], console: Console) -> None:
    split = search.split
    lines = [
        f"{search.task}, fold {search.study.folds[0]}: {len(split.train)} inner training and {len(split.held_out)} "
        "inner validation cases, both of the fold's training side; what it holds out stays closed",
        f"searching {'; '.join(dimension.text for dimension in search.space)}",
        f"{len(drawn)} samples by {wish.method}, {len(todo)} to run",
    ]
    if len(drawn) < wish.samples:
        lines.append(f"--samples {wish.samples}: there are only {size(search.space)} combinations; each is tried")
    for line in lines:
        console.print(line, highlight=False, markup=False)
    notice = search.ground.folders[search.task].spec.notice
    for line in (*search.ground.notices, *([notice] if notice else [])):
        console.print(line, style="yellow", highlight=False, markup=False)


def _say_end(search: Search, samples: Sequence[Sample], console: Console) -> None:
    """The best by their inner Dice, then how many samples ended how, then each that failed."""
    names = [dimension.name for dimension in search.space]
    table = Table("sample", *names, *(f"Dice after {share:.0%}" for share in search.shares))
    for sample in best_first(samples)[:_SHOWN]:
        dice = [f"{rung.dice:.4f}" for rung in sample.rungs]
        values = [f"{sample.values[name]}" for name in names]
        table.add_row(str(sample.number), *values, *[""] * (len(search.shares) - len(dice)), *dice)
    console.print(table)
    counts = Counter(sample.state.value for sample in samples)
    told = ", ".join(f"{count} {state}" for state, count in counts.items()) or "none"
    console.print(f"{len(samples)} samples: {told}; inner Dice on {len(search.split.held_out)} cases", highlight=False)
    for sample in samples:
        if sample.state in (State.FAILED, State.DIVERGED):
            last = (sample.error.splitlines() or ["unknown"])[-1]
            text = f"{sample.state.value}: {_title(sample)}: {last}"
            console.print(text, style="red", highlight=False, markup=False)
