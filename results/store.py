"""Where records live: `run/trials/<task>/<arm>/<seed>-<fold>-<digest>.json`. Standard library only.

The files are the only truth about a run: what is complete is read from them, never remembered elsewhere.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from results.record import Status, TrialResult, TrialSpec

#: These parts of a record may differ between two runs of the same trial. Of the specification, what may not is in the
#: digest, which is compared; the place that weights were read from is not.
_INCIDENTAL = ("cost", "provenance", "spec")
#: The first key after the cases in the canonical form, which indents what is on top by one space; and how much of a
#: file's end is looked at for it.
_AFTER_CASES = b'\n "cost": {'
_TAIL = 32 * 1024
#: Around the specification, and before the seed in it. No text in JSON holds a line feed, and what lies deeper is
#: indented by more.
_SPEC, _AFTER_SPEC, _SEED = '\n "spec": ', ',\n "status": ', '\n  "seed": '
_ENDING = ".json"


class RecordError(ValueError):
    """A record that cannot be read, or that must not be written. The message names the file."""


def record_path(run: Path, record: TrialResult) -> Path:
    """Where a record belongs."""
    return key_path(Path(run) / "trials", record.spec.key, _ENDING)


def key_path(folder: Path, key: str, ending: str = "") -> Path:
    """Where a trial's file or folder belongs; a key holds no name that leads out of its folder (see `TrialSpec`)."""
    return folder / f"{key}{ending}"


def write(run: Path, record: TrialResult) -> Path:
    """Store a record atomically and return its path.

    A complete record is never replaced: one with the same content (cost and provenance aside) is left as it is,
    one with other content raises RecordError. A failed record gives way to whatever comes after it.
    """
    path = record_path(run, record)
    if path.exists():
        old = read_file(path)
        if old.status is Status.COMPLETE:
            if same_content(old, record):
                return path
            raise RecordError(
                f"{path} is a complete record and has other content than the new one (status {record.status.value}); "
                "move the old file away, or write to another run folder"
            )
    atomic_write(path, record.to_json().encode())
    return path


def read(run: Path) -> list[TrialResult]:
    """Every record of a run, sorted by path; an empty list where there is none yet.

    Raises RecordError for a damaged record, and for one that lies where its key does not say: a copy counts twice.
    """
    return [_in_place(path, key, read_file(path)) for path, key in _places(run)]


def heads(run: Path) -> Iterator[TrialResult]:
    """Every record of a run without its cases and without looking at them, sorted by path; one at a time.

    The cases are nearly all of a record, and whoever asks what is complete has no use for them. RecordError as `read`
    has it; damage among the cases alone is seen by those who read them.
    """
    known = _Specs()
    return (_in_place(path, key, read_head(path, known)) for path, key in _places(run))


def keys(run: Path) -> Iterator[str]:
    """The keys of the records that are there by the names of their files, sorted by path; none is opened."""
    return _keys(str(Path(run) / "trials"), "")


def _keys(folder: str, above: str) -> Iterator[str]:
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _keys(entry.path, f"{above}{entry.name}/")
        elif entry.name.endswith(_ENDING):
            yield above + entry.name.removesuffix(_ENDING)


def _places(run: Path) -> Iterator[tuple[Path, str]]:
    trials = Path(run) / "trials"
    return ((key_path(trials, key, _ENDING), key) for key in keys(run))


class _Specs:
    """Specifications by the text around their seeds: thousands of records have all else in common. Each is read once.

    A record's digest is compared with that of the specification that is given here, as with any.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], TrialSpec] = {}

    def of(self, text: str) -> TrialSpec:
        """The specification of a canonical text; ValueError, KeyError or TypeError if it is none."""
        before, _, rest = text.partition(_SEED)
        seed, _, after = rest.partition(",")
        if (before, after) not in self._known:
            self._known[before, after] = TrialSpec.from_body(json.loads(text))
        return self._known[before, after].with_seed(int(seed))


def read_head(path: Path, known: _Specs | None = None) -> TrialResult:
    """One record without its cases: what stands after them in the canonical form, or of the whole in any other."""
    with path.open("rb", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _TAIL))
        tail = file.read()
    start = tail.rfind(_AFTER_CASES)  # from the end: the cases before it are nearly all of the file
    if start >= 0:
        try:
            own, _, rest = tail[start:].decode().partition(_SPEC)
            spec, _, rest = rest.partition(_AFTER_SPEC)
            body = json.loads(f'{{"cases": [],{own}{_SPEC}0{_AFTER_SPEC}{rest}')
            return TrialResult.from_body(body, (known or _Specs()).of(spec))
        except (ValueError, KeyError, TypeError):
            pass  # the whole says better what is wrong
    return replace(read_file(path), cases=())


def completed(run: Path) -> set[str]:
    """Digests of the trials that are complete."""
    return {record.spec.digest for record in heads(run) if record.status is Status.COMPLETE}


def failed(run: Path) -> list[TrialResult]:
    """The records of trials that failed or diverged, with their errors, sorted by path."""
    return [record for record in heads(run) if record.status is not Status.COMPLETE]


def _in_place(path: Path, key: str, record: TrialResult) -> TrialResult:
    if key != record.spec.key:
        raise RecordError(f"{path} is not in its place (expected trials/{record.spec.key}.json): move or delete it")
    return record


def diverged(run: Path) -> set[str]:
    """Digests of the trials whose loss ceased to be a number: the same settings would end there again."""
    return {record.spec.digest for record in heads(run) if record.status is Status.DIVERGED}


def atomic_write(path: Path, data: bytes, durable: bool = True) -> None:
    """Write a file so that any reader, at any moment, finds the old bytes or the new ones, never a part.

    Missing folders are made. On failure nothing is left behind, and OSError is raised. durable: survive a power cut,
    which costs a wait for the disk.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno:  # a write that failed does not tell where
            error.filename = error.filename or str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)
    if durable:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut, where the system lets a folder be opened."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_file(path: Path) -> TrialResult:
    """One record; RecordError if it is damaged."""
    try:
        return TrialResult.from_json(path.read_text(encoding="utf-8"))
    except (ValueError, AttributeError, TypeError) as error:
        raise RecordError(
            f"cannot read record {path}: {error}; delete it, and the same command runs its trial again"
        ) from error


def same_content(one: TrialResult, other: TrialResult) -> bool:
    """Whether two records of the same trial tell the same; cost and provenance do not count."""
    return _content(one) == _content(other)


def _content(record: TrialResult) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(record.to_json())
    return {key: value for key, value in body.items() if key not in _INCIDENTAL}
