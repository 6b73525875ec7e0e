"""Nothing is unpickled: by the source of every room, call by call."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOMS = ("bench", "backbones", "mvl", "results", "reports")
ROOT = Path(__file__).parents[2]
#: Calls that run whatever a file holds, by the end of their dotted name.
NEVER = {
    *("read_pickle", "yaml.load", "yaml.unsafe_load", "torch.jit.load", "torch.package.PackageImporter"),
    *("builtins.eval", "builtins.exec"),
}
#: Modules that do: whoever imports one has them by any name.
MODULES = {"pickle", "_pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib", "jsonpickle", "pickletools"}
#: An exception alone.
HARMLESS = {"pickle.UnpicklingError"}


def faults(source: str, where: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            found += [f"{where}:{node.lineno}: imports {name}" for name in _imported(node) if _unpickles(name)]
        if isinstance(node, ast.Call):
            name, given = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
            first = ast.unparse(node.args[0]) if node.args else ""
            found += [f"{where}:{node.lineno}: {text}" for text in _faults_of_call(name, first, given)]
    return found


def _faults_of_call(name: str, first: str, given: dict[str | None, str]) -> list[str]:
    if name in ("eval", "exec") or any(name == end or name.endswith(f".{end}") for end in NEVER):
        return [f"{name} runs what a file holds"]
    if name.endswith(("import_module", "__import__")) and _unpickles(first.strip("'\"")):
        return [f"{name} of {first}"]
    if name in ("torch.load", "load_checkpoint") and given.get("weights_only") != "True":
        return [f"{name} without weights_only=True"]
    on = [word for word in ("allow_pickle", "trust_remote_code") if given.get(word, "False") != "False"]
    return [f"{name} with {word}" for word in on]


def _imported(node: ast.Import | ast.ImportFrom) -> list[str]:
    """Full names: of `from ray import cloudpickle` too."""
    inside = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
    return [inside + alias.name for alias in node.names]


def _unpickles(module: str) -> bool:
    return module not in HARMLESS and not MODULES.isdisjoint(module.split("."))


def test_no_room_unpickles_anything():
    sources = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
    assert len(sources) > 100
    assert [fault for path in sources for fault in faults(path.read_text(), str(path.relative_to(ROOT)))] == []


@pytest.mark.parametrize(
    "line",
    [
        *("import pickle", "import pickle as p", "from pickle import loads", "from ray import cloudpickle"),
        *(
            "from joblib.numpy_pickle import load",
            "importlib.import_module('dill')",
            "numpy.load(p, allow_pickle=True)",
        ),
        *(
            "memmap.open(path, allow_pickle=flag)",
            "torch.load(path)",
            "torch.load(path, weights_only=False)",
            "eval(text)",
        ),
        *("np.load(path, allow_pickle=True)", "pd.read_pickle(path)"),
        *("AutoModel.from_pretrained(name, trust_remote_code=True)", "yaml.load(text)"),
    ],
)
def test_each_way_would_be_seen(line):
    assert len(faults(line, "x.py")) == 1
