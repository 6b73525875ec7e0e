"""A task as a CSV file, a row a case, for images that lie anywhere. The file's name without `.csv` is the task's name.

Columns, in any order; what others there are is not read:

- `image`: a path, or one a channel with `;` between; or columns `image_0`, `image_1`, … of a path each;
- `label`: a path; values 1, 2, … are classes, 0 is background;
- `patient` (optional): cases of one patient are never on both sides of a split; left out, each case is a patient;
- `case` or `id` (optional): the case's name; left out, the image's, with its folders' where that is not unique;
- `modality` (optional, one for the whole file): `CT`, `PET`, …, or one a channel with `;` between. CT is clipped and
  scaled by the training foreground, anything else is standardised image by image.

Paths are absolute, or relative to the CSV's folder. Class names stand beside the CSV in `<name>.labels.json`,
`<name>.labels.toml`, `labels.json` or `labels.toml`, the first that is there: `{"liver": 1}`, `{"1": "liver"}` or
`["liver"]`, at the top or under `labels`, which may have `channels` (a list), `modality`, `licence` and `reference`
beside it. Without such a file the labels are read once, and the classes are `label 1` to `label n`.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.data.cases import Case, TaskFolder, case_id
from bench.data.facts import read_facts
from bench.data.layouts.declared import can_be_a_path, modality_of, spec_of
from bench.data.layouts.names import Named, read_named
from bench.data.measure import CaseFacts
from bench.data.nifti import DataError

UNKNOWN = "unknown"


@dataclass(frozen=True)
class _Row:
    line: int
    cells: dict[str, str]
    images: tuple[Path, ...]
    label: Path


def is_table(path: Path) -> bool:
    """Whether a CSV file lists images and labels, by its first line: folders hold other tables too."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as opened:
            columns = _lower(next(csv.reader(opened), []))
    except (OSError, UnicodeDecodeError, csv.Error):
        return False
    return "label" in columns and bool({"image", "image_0"} & set(columns))


def open_table(path: Path) -> TaskFolder:
    """The task of a CSV file. DataError if a column is missing; a row that cannot be used is among the problems."""
    problems: list[str] = []
    rows = _rows(path, problems)
    ids = _ids(rows, path)
    cases = [
        Case(name, row.images, row.label, row.cells.get("patient", name)) for name, row in zip(ids, rows, strict=True)
    ]
    named = read_named(path)
    parts = _modality(rows, path)
    labels, channels = named.labels, named.channels or _channels(cases, parts)
    modality = named.modality or (modality_of(parts or channels) if parts or named.channels else UNKNOWN)
    spec = spec_of(path.stem, path, channels, labels or _classes(read_facts(cases), path), _origin(named), modality)
    in_order = tuple(sorted(cases, key=lambda case: case.id))
    return TaskFolder(spec, path.parent, in_order, path, "CSV", tuple(problems))


def _rows(path: Path, problems: list[str]) -> list[_Row]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as opened:
            reader = csv.DictReader(opened)
            reader.fieldnames = _lower(reader.fieldnames or [])
            columns = _image_columns(reader.fieldnames, path)
            lines = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as CSV ({error}); save it as comma-separated UTF-8") from error
    rows = []
    for line, row in lines:
        cells = {key: (value or "").strip() for key, value in row.items() if isinstance(key, str)}
        try:
            rows.append(_row(path, line, cells, columns, None in row))
        except DataError as error:
            problems.append(str(error))
    if not rows and not problems:
        raise DataError(f"{path}: has no row below its column names; list a case a row")
    return rows


def _lower(names: Sequence[str]) -> list[str]:
    return [name.strip().lower() for name in names]


def _image_columns(columns: Sequence[str], path: Path) -> list[str]:
    """`image`, or `image_0`, `image_1`, …; DataError if these or `label` are not there as they should be."""
    apart = sorted((name for name in columns if re.fullmatch(r"image_\d+", name)), key=lambda name: int(name[6:]))
    found = ["image"] * ("image" in columns) + apart
    if "label" not in columns or not found:
        raise DataError(f"{path}: needs columns image (or image_0, image_1, …) and label; found {', '.join(columns)}")
    if found not in (["image"], [f"image_{n}" for n in range(len(found))]):
        raise DataError(f"{path}: give either image, or image_0, image_1, … without a gap; found {', '.join(found)}")
    if twice := sorted({name for name in columns if columns.count(name) > 1}):
        raise DataError(f"{path}: column {twice[0]!r} is there twice; keep one")
    near = [name for name in columns if re.match("patient|subject", name)]
    if near and "patient" not in columns:  # left unread, it would put scans of one patient on both sides of a split
        raise DataError(
            f"{path}: rename column {near[0]!r} to 'patient' (or to another name, if it does not tell patients apart)"
        )
    return found


def _row(path: Path, line: int, cells: dict[str, str], columns: list[str], too_long: bool) -> _Row:
    where = f"{path}: line {line}"
    if too_long:
        raise DataError(f"{where}: more cells than columns; put quotes round a cell that holds a comma")
    texts = [text.strip() for name in columns for text in cells[name].split(";")]
    for name, filled in (("image", all(texts)), ("label", cells["label"]), ("patient", cells.get("patient", "one"))):
        if not filled:
            raise DataError(f"{where}: {name} is empty; fill it in or remove the row")
    images = tuple(_path(path, text, where) for text in texts)
    return _Row(line, cells, images, _path(path, cells["label"], where))


def _path(table: Path, text: str, where: str) -> Path:
    """Absolute as the list's maker wrote it, or below the list's folder."""
    if not can_be_a_path(text):
        raise DataError(f"{where}: {text!r} can be no path; correct it")
    try:
        return Path(os.path.normpath(table.parent / Path(text).expanduser()))
    except RuntimeError as error:
        raise DataError(f"{where}: {text!r} cannot be resolved ({error}); write the folder out") from error


def _ids(rows: Sequence[_Row], path: Path) -> list[str]:
    """The names that the list gives, or the shortest ends of the images' paths that tell all of them apart."""
    key = next((name for name in ("case", "id") if rows and name in rows[0].cells), "")
    if key:
        for row in rows:
            if not row.cells[key] or re.search(r"[/\\]|^\.", row.cells[key]):
                raise DataError(
                    f"{path}: line {row.line}: {key} {row.cells[key]!r} is no name; use text without a slash"
                )
        return [row.cells[key] for row in rows]
    ends = [(*row.images[0].parent.parts[1:], case_id(row.images[0])) for row in rows]
    for depth in range(1, max(map(len, ends), default=0) + 1):
        names = ["-".join(end[-depth:]) for end in ends]
        if len(set(names)) == len(names):
            return names
    return [end[-1] for end in ends]  # one image in two rows: the check names it


def _modality(rows: Sequence[_Row], path: Path) -> tuple[str, ...]:
    """What the column says, a part a channel; empty if there is none."""
    values = list(dict.fromkeys(row.cells.get("modality", "") for row in rows))
    if len(values) > 1:
        found = ", ".join(value or "nothing" for value in values)
        raise DataError(f"{path}: modality is {found}; a task has one modality: make a file for each")
    return tuple(part.strip() for part in values[0].split(";")) if values and values[0] else ()


def _channels(cases: Sequence[Case], modality: tuple[str, ...]) -> tuple[str, ...]:
    """Names for the channels, as many as there are files or, in one file, as the first that can be read has."""
    number = len(cases[0].images) if cases else 1
    if number == 1 and len(modality) < 2:
        facts = (fact for case in cases for fact in read_facts([case]) if not fact.errors)
        number = max(1, next((fact.channels for fact in facts), 1))
    if len(modality) > 1 or len(modality) == number:
        return modality
    return tuple(f"{modality[0] if modality else 'channel'} {n}" for n in range(number))


def _classes(facts: Sequence[CaseFacts], path: Path) -> tuple[str, ...]:
    """`label 1` to `label n` of the values that the labels have; what cannot be read is left to the check."""
    found = sorted({value for fact in facts for value in fact.counts if value > 0})
    if found != list(range(1, len(found) + 1)):
        shown = ", ".join(map(str, found[:8]))
        raise DataError(f"{path}: label values are {shown}; classes must be 1, 2, … without a gap, or named beside it")
    return tuple(f"label {value}" for value in found or (1,))


def _origin(named: Named) -> dict[str, str]:
    return {"licence": named.licence, "reference": named.reference}
