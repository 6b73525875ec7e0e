"""What `--backbones` may hold: names, layers of them, local checkpoints, GGUF files, repositories."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from backbones import registry
from backbones.errors import UnknownBackbone, WeightsMissing
from backbones.sources import REPO_ID
from backbones.spec import BackboneSpec

_AT = re.compile(r"(?P<what>.+)@(?P<layer>\d+)")


@dataclass(frozen=True)
class Request:
    """what: a registry name, a folder, a .gguf file or a repository. layers: empty for the row's own.

    own: the row's own layer beside those that are named.
    """

    what: str
    layers: tuple[int, ...] = ()
    own: bool = False

    @property
    def text(self) -> str:
        """As a user writes it."""
        if not self.layers:
            return self.what
        return f"{self.what}," * self.own + f"{self.what}@{','.join(map(str, self.layers))}"


@dataclass(frozen=True)
class Backbone:
    """A request looked up: source is where its weights are, where the request said so (None: where the row says)."""

    spec: BackboneSpec
    layers: tuple[int, ...]
    source: str | None = None


def parse(texts: Sequence[str]) -> list[Request]:
    """`llama3@8,16`, `gpt2`, … to requests, each backbone once, its layers together and in order.

    A comma stands between backbones and between layers: a number belongs to the layers before it. UnknownBackbone for a
    number that has none before it.
    """
    layers: dict[str, list[int | None]] = {}
    last = ""
    for part in (part.strip() for text in texts for part in text.split(",")):
        found = None if Path(part).exists() else _AT.fullmatch(part)  # a folder may be called so@3
        if found:
            last = found["what"]
            layers.setdefault(last, []).append(int(found["layer"]))
        elif part.isdigit():
            if not last:
                raise UnknownBackbone(
                    f"--backbones: {part!r} is a layer of nothing; several layers are written NAME@8,{part}"
                )
            layers[last].append(int(part))
        elif part:
            layers.setdefault(part, []).append(None)
            last = ""
    return [_request(what, set(numbers)) for what, numbers in layers.items()]


def _request(what: str, numbers: set[int | None]) -> Request:
    named = tuple(sorted(number for number in numbers if number is not None))
    return Request(what, named, own=bool(named) and None in numbers)


def anchored(texts: Sequence[str]) -> tuple[str, ...]:
    """The same requests, with files and folders by their full paths: they hold wherever they are read again."""
    requests = [replace(request, what=anchored_path(request.what)) for request in parse(texts)]
    return tuple(request.text for request in requests)


def anchored_path(what: str) -> str:
    """The full path of what is a file or a folder and no name of the registry; anything else as it is."""
    path = Path(what).expanduser()
    return str(path.resolve()) if what not in registry.names() and path.exists() else what


def resolve(request: Request) -> Backbone:
    """Look a request up: the registry first, then this machine's files, then the hub.

    Errors: UnknownBackbone (also for a layer that the model does not have), WeightsError, WeightsMissing.
    """
    from backbones import adhoc

    path = Path(request.what).expanduser()
    source: str | None = request.what
    if request.what in registry.names():
        spec, source = registry.get(request.what), None
    elif path.is_dir() or (path.is_file() and path.suffix == ".gguf"):
        spec, source = adhoc.of_path(path), str(path.resolve())
    elif REPO_ID.fullmatch(request.what):
        spec = adhoc.of_repository(request.what)
    elif "/" in request.what or path.suffix == ".gguf":
        raise WeightsMissing(
            f"--backbones {request.what}: no such folder or file; what works: a name from `bench list backbones`, a "
            "folder with a Hugging Face checkpoint, a .gguf file, or a hub repository owner/name"
        )
    else:
        spec = registry.get(request.what)
    layers = tuple(sorted({*request.layers, *([spec.layer] if request.own or not request.layers else [])}))
    if wrong := [layer for layer in layers if layer >= spec.layers]:
        raise UnknownBackbone(
            f"--backbones {request.text}: {spec.name!r} has layers 0 to {spec.layers - 1}, not {wrong[0]}"
        )
    return Backbone(spec, layers, source)
