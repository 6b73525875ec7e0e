"""Where a run stands, read from its folder alone: from any shell, and also when the command that ran it is gone."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live as Display
from rich.table import Column, Table
from rich.text import Text

from bench import driver, live, plan
from bench.live import Live
from bench.progress import duration
from results import store
from results.arms import arm_key, arm_names, titles
from results.record import Status, TrialSpec

_SECONDS_BETWEEN_LOOKS = 2.0
#: More running trials than this are only counted.
_MOST_LINES = 20


@dataclass(frozen=True)
class Ended:
    """What status needs of a record: how its trial ended, when, and how long it took (None where it does not say)."""

    digest: str
    complete: bool
    error: str
    written: float
    seconds: float | None

    def outdated(self, state: Live) -> bool:
        """Whether the trial was begun again since."""
        return not self.complete and self.written < state.started


@dataclass
class Records:
    """The records of a run, each read once however often it is looked at."""

    run: Path
    _known: dict[Path, tuple[tuple[int, int], Ended]] = field(default_factory=dict)

    def read(self) -> dict[str, Ended]:
        """Digest → how its trial ended. RecordError names a damaged record."""
        found = {}
        for path in sorted((self.run / "trials").rglob("*.json")):
            stat = path.stat()
            mark = (stat.st_mtime_ns, stat.st_size)
            if path not in self._known or self._known[path][0] != mark:
                self._known[path] = mark, _ended(path)
            found[self._known[path][1].digest] = self._known[path][1]
        return found


def _ended(path: Path) -> Ended:
    record = store.read_head(path)
    parts = [record.cost.get(f"{name}_seconds") for name in ("prepare", "train", "score")]
    seconds = sum(part for part in parts if part is not None) if any(parts) else None
    complete = record.status is Status.COMPLETE
    return Ended(record.spec.digest, complete, record.error, path.stat().st_mtime, seconds)


@dataclass(frozen=True)
class Standing:
    """A run at one moment. running and interrupted: by digest, what the trials without a record last told."""

    specs: tuple[TrialSpec, ...]
    ended: Mapping[str, Ended]
    running: Mapping[str, Live]
    interrupted: Mapping[str, Live]

    @property
    def complete(self) -> int:
        return sum(spec.digest in self.ended and self.ended[spec.digest].complete for spec in self.specs)

    @property
    def failed(self) -> list[TrialSpec]:
        """Those with a failed record that were not begun again since."""
        broken = {digest for digest, one in self.ended.items() if not one.complete}
        return [spec for spec in self.specs if spec.digest in broken - set(self.running) - set(self.interrupted)]

    def left(self, now: float) -> str:
        """Time left: what is not done, at the pace of complete trials or of the running ones, side by side as now."""
        if not self.running:
            return ""
        paces = [one.seconds for one in self.ended.values() if one.complete and one.seconds]
        paces = paces or [(now - one.started) / one.share for one in self.running.values() if one.share > 0]
        if not paces:
            return "time left unknown"
        undone = len(self.specs) - self.complete - len(self.failed) - sum(one.share for one in self.running.values())
        return f"{duration(max(0.0, undone) * sum(paces) / len(paces) / len(self.running))} left"


def look(records: Records) -> Standing:
    """Read where the run stands now. The records come last: a trial that ends meanwhile has one, and is not lost."""
    specs = tuple(plan.expected(records.run))
    by_key = {spec.key: spec.digest for spec in specs}
    told = {by_key[key]: state for key, state in live.read(records.run).items() if key in by_key}
    ended = records.read()
    undone = {d: state for d, state in told.items() if d not in ended or ended[d].outdated(state)}
    running = {digest: state for digest, state in undone.items() if not state.gone}
    return Standing(specs, ended, running, {d: state for d, state in undone.items() if d not in running})


def show_status(run: Path, console: Console, watch: bool = False) -> None:
    """A row a task and arm, then each trial that failed, runs or was interrupted; with watch, until the run ends."""
    records = Records(run)
    if not watch:
        console.print(_whole(look(records)))
        return
    with contextlib.suppress(KeyboardInterrupt):
        _watch(records, console)


def _watch(records: Records, console: Console) -> None:
    if console.is_terminal:
        with Display(_whole(look(records)), console=console, auto_refresh=False) as display:
            for standing in _until_ended(records):
                display.update(_whole(standing), refresh=True)
        return
    before = ""
    for standing in _until_ended(records):
        if (line := _summary(standing)) != before:
            console.print(line, highlight=False, markup=False)
            before = line
    console.print(_whole(standing))


def _until_ended(records: Records) -> Iterator[Standing]:
    """Where the run stands, again and again, while a command is at work in its folder."""
    while True:
        working = driver.working(records.run)
        yield look(records)
        if not working:
            return
        time.sleep(_SECONDS_BETWEEN_LOOKS)


def _whole(standing: Standing) -> RenderableType:
    told = titles(standing.specs)
    lines = [Text(line) for line in (*_failures(standing, told), *_interrupted(standing, told))]
    table = _table({told[digest]: state for digest, state in standing.running.items()})
    return Group(_counts(standing), *lines, table, Text(_summary(standing)))


def _counts(standing: Standing) -> Table:
    table = Table("task", "arm", "complete", "failed", "running", "not yet run")
    names = arm_names(standing.specs)
    rows: dict[tuple[str, str], list[str]] = {}
    for spec in standing.specs:
        rows.setdefault((spec.task, names[arm_key(spec)]), []).append(spec.digest)
    broken = {spec.digest for spec in standing.failed}
    for (task, arm), digests in rows.items():
        complete = sum(d in standing.ended and standing.ended[d].complete for d in digests)
        failed, running = (sum(d in group for d in digests) for group in (broken, standing.running))
        left = len(digests) - complete - failed - running
        table.add_row(task, arm, f"{complete} of {len(digests)}", str(failed), str(running), str(left))
    return table


def _failures(standing: Standing, told: Mapping[str, str]) -> Iterator[str]:
    for spec in standing.failed:
        last = (standing.ended[spec.digest].error.splitlines() or ["unknown"])[-1]
        yield f"failed: {told[spec.digest]}: {last}"


def _interrupted(standing: Standing, told: Mapping[str, str]) -> Iterator[str]:
    for digest, state in standing.interrupted.items():
        yield f"interrupted: {told[digest]}: {words(state)}; {state.gone}"


def running_in(run: Path, names: Mapping[str, str]) -> Table:
    """The running trials of a folder among those of names (key → what people read)."""
    return _table({names[key]: state for key, state in live.read(run).items() if key in names and not state.gone})


def _table(states: Mapping[str, Live]) -> Table:
    """A line a running trial, by the name that people read."""
    table = Table.grid(Column(no_wrap=True, overflow="ellipsis"), Column(no_wrap=True), padding=(0, 2))
    for title, state in list(states.items())[:_MOST_LINES]:
        table.add_row(Text(f"running: {title}"), Text(words(state)))
    if len(states) > _MOST_LINES:
        table.add_row(Text(f"and {len(states) - _MOST_LINES} more"))
    return table


def words(state: Live) -> str:
    """`epoch 3 of 20, loss 0.512, training Dice 0.610, validation Dice 0.587, 41 samples/s`, or what else it does."""
    if state.doing != "training":
        return state.doing
    numbers = (
        (state.loss, "loss {:.3f}"),
        (state.dice, "training Dice {:.3f}"),
        (state.validation_dice, "validation Dice {:.3f}"),
    )
    parts = [text.format(value) for value, text in numbers if value is not None]
    if state.samples_per_second:
        parts.append(f"{state.samples_per_second:.3g} samples/s")
    return ", ".join([f"epoch {state.epoch} of {state.epochs}", *parts])


def _summary(standing: Standing) -> str:
    counts: Iterable[tuple[int, str]] = (
        (len(standing.failed), "failed"),
        (len(standing.running), "running"),
        (len(standing.interrupted), "interrupted"),
    )
    parts = [f"{standing.complete} of {len(standing.specs)} trials complete"]
    parts += [f"{number} {what}" for number, what in counts if number]
    return ", ".join([*parts, *filter(None, [standing.left(time.time())])])
