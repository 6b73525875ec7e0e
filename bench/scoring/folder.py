"""Two folders of NIfTI files in: which prediction belongs to which reference, and what their values are called."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.data.folder import FOREGROUND, MERGED, case_id
from bench.data.layouts.declared import FILE, read_declared
from bench.data.nifti import DataError
from bench.data.tasks import DECATHLON, TOLERANCE
from results.record import is_one_part

_ENDINGS = (".nii", ".nii.gz")
#: So many names stand in a message; the others are counted.
_SHOWN = 20


@dataclass(frozen=True)
class Pairs:
    """found: case id → (prediction, reference). missing have no prediction, extra no reference."""

    found: dict[str, tuple[Path, Path]]
    missing: tuple[str, ...]
    extra: tuple[str, ...]


@dataclass(frozen=True)
class Named:
    """What a task's values are called, and what else of it a table shows.

    values: label value → name, ascending; values of one name are one label.
    """

    task: str
    values: dict[int, str]
    modality: str = "unknown"
    tolerance: float = TOLERANCE
    origin: str = "images"
    source: str = ""
    licence: str = ""
    notice: str = ""
    patients: tuple[tuple[str, str], ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels' names, each once."""
        return tuple(dict.fromkeys(self.values.values()))


def pair_up(prediction: Path, reference: Path, suffix: str = "", partial: bool = False) -> Pairs:
    """Pair the files of two folders by case id, the file's name without its ending.

    suffix is an ending of the prediction's ids that is not part of them (`_trans` of MONAI's writer). Of reference,
    `labelsTr` is taken where it is a task's folder. DataError lists every case that only one side has, unless partial.
    """
    reference = reference / "labelsTr" if (reference / "labelsTr").is_dir() else reference
    ours, theirs = _files(prediction, "--prediction", suffix), _files(reference, "--reference")
    missing, extra = sorted(theirs.keys() - ours.keys()), sorted(ours.keys() - theirs.keys())
    both = sorted(ours.keys() & theirs.keys())
    if not both:
        raise DataError(
            f"no case is in both folders: {prediction} has {_listed(ours)}; {reference} has {_listed(theirs)}; names "
            "without .nii or .nii.gz must be the same (--suffix takes an ending off the predictions' names)"
        )
    if (missing or extra) and not partial:
        lines = [f"no prediction in {prediction} of {len(missing)} cases: {', '.join(missing)}"] * bool(missing)
        lines += [f"no reference in {reference} of {len(extra)} cases: {', '.join(extra)}"] * bool(extra)
        raise DataError("\n".join([*lines, f"{len(both)} cases are in both; --partial scores these alone"]))
    return Pairs({case: (ours[case], theirs[case]) for case in both}, tuple(missing), tuple(extra))


def names_of(reference: Path, labels: str | None, task: str | None) -> Named:
    """Names by `--labels 1=liver,2=tumour`, else by the dataset.json in the reference's folder or the one above it.

    task is the name in tables, else that of the folder with the dataset.json, else of the reference's folder. `binary`
    merges all of the dataset.json's values into one label, or all that is not 0 where there is none, and names the
    task as a study with `--labels binary` does.
    """
    places = [folder / FILE for folder in (reference, reference.resolve().parent)]
    path = next((place for place in places if place.is_file()), None)
    body = read_declared(path.parent) if path else {}
    name = task or (path.resolve().parent if path else reference.resolve()).name
    if not is_one_part(name):
        raise DataError(f"--task {name!r}: files are named by it; give a name without '..' and slashes")
    if labels == "binary":
        described = _described(body.get("labels"), places, path) if path else range(1, 256)
        name, values = name.removesuffix(MERGED) + MERGED, dict.fromkeys(described, FOREGROUND)
    elif labels is None and path is None:
        raise DataError(
            f"no dataset.json in {reference} or above it says what the label values are; give --labels 1=liver,2=tumour"
        )
    else:
        values = _given(labels) if labels is not None else _described(body.get("labels"), places, path)
    known = {spec.name: spec for spec in DECATHLON}.get(name.removesuffix(MERGED))
    patients = body.get("patients")
    return Named(
        name,
        values,
        modality=known.modality if known else _modality(body),
        tolerance=known.tolerance if known else TOLERANCE,
        origin=str(body.get("origin", "images")),
        source=str(body.get("reference", "")),
        licence=str(body.get("licence", "")),
        notice=str(body.get("notice", "")),
        patients=tuple((str(case), str(one)) for case, one in (patients if isinstance(patients, dict) else {}).items()),
    )


def _files(folder: Path, flag: str, suffix: str = "") -> dict[str, Path]:
    """Case id → file, of the folder and those in it; DataError where there is none, or an id twice."""
    if not folder.is_dir():
        raise DataError(f"{flag} {folder}: is no folder; give one that holds .nii or .nii.gz files")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.nii*")):
        if path.name.startswith(".") or not path.name.endswith(_ENDINGS) or not path.is_file():
            continue
        if "probabilities" in path.relative_to(folder).parts[:-1]:  # `bench predict --probabilities` puts them there
            continue
        case = case_id(path).removesuffix(suffix)
        if case in found:
            raise DataError(f"{flag} {folder}: {found[case]} and {path} are both case {case!r}; leave one")
        found[case] = path
    if not found:
        raise DataError(f"{flag} {folder}: has no .nii or .nii.gz file")
    return found


def _listed(names: Iterable[str]) -> str:
    names = sorted(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _given(text: str) -> dict[int, str]:
    """`1=liver,2=tumour`; a value of 0 is the background, and has no score."""
    pairs = [part.partition("=") for part in text.split(",")]
    return _checked([(number.strip(), name.strip()) for number, _, name in pairs], f"--labels {text!r}")


def _described(labels: Any, places: list[Path], path: Path | None) -> dict[int, str]:
    """`{"0": "background", "1": "liver"}` as MSD writes it, or `{"background": 0, "liver": 1}` as nnU-Net does."""
    if not isinstance(labels, dict):
        raise DataError(f"{path}: has no 'labels' as a JSON object; give --labels 1=liver,2=tumour")
    named_first = any(not isinstance(value, str) for value in labels.values())
    pairs = [(str(value), str(name)) if named_first else (str(name), str(value)) for name, value in labels.items()]
    return _checked([pair for pair in pairs if pair[1] != "ignore"], f"{path}: 'labels'")


def _checked(pairs: list[tuple[str, str]], where: str) -> dict[int, str]:
    if any(not number.isdecimal() or not 0 <= int(number) <= 255 or not name for number, name in pairs):
        wrong = next(p for p in pairs if not p[0].isdecimal() or not 0 <= int(p[0]) <= 255 or not p[1])
        raise DataError(f"{where}: {'='.join(wrong)} is no value from 0 to 255 with a name; give --labels 1=liver,…")
    values = {int(number): name for number, name in sorted(pairs, key=lambda pair: int(pair[0])) if int(number)}
    if not values or len(values) + any(number == "0" for number, _ in pairs) < len(pairs):
        raise DataError(f"{where}: names no foreground value, or one twice; give --labels 1=liver,2=tumour")
    if len(set(values.values())) < len(values):
        raise DataError(f"{where}: two values have the same name; give each its own with --labels")
    return values


def _modality(body: dict[str, Any]) -> str:
    channels = body.get("modality") or body.get("channel_names")
    texts = channels.values() if isinstance(channels, dict) else ()
    return "+".join(dict.fromkeys(map(str, texts))) or "unknown"
