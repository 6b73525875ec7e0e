"""Nothing is unpickled: by the source of every room, call by call."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOMS = ("bench", "backbones", "mvl", "results", "reports")
ROOT = Path(__file__).parents[2]
#: Calls that run whatever a file holds, by the end of their dotted name.
NEVER = {
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "cloudpickle.load", "cloudpickle.loads", "dill.load"),
    *("marshal.load", "marshal.loads", "shelve.open", "joblib.load", "read_pickle", "yaml.load", "yaml.unsafe_load"),
    *("torch.jit.load", "torch.package.PackageImporter", "builtins.eval", "builtins.exec"),
}
MODULES = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib", "jsonpickle"}


def faults(source: str, where: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module in MODULES:
            found.append(f"{where}:{node.lineno}: from {node.module} import …")
        if isinstance(node, ast.Call):
            name, given = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
            found += [f"{where}:{node.lineno}: {text}" for text in _faults_of_call(name, given)]
    return found


def _faults_of_call(name: str, given: dict[str | None, str]) -> list[str]:
    if name in ("eval", "exec") or any(name == end or name.endswith(f".{end}") for end in NEVER):
        return [f"{name} runs what a file holds"]
    if name in ("torch.load", "load_checkpoint") and given.get("weights_only") != "True":
        return [f"{name} without weights_only=True"]
    if name.endswith("np.load") and given.get("allow_pickle", "False") != "False":
        return [f"{name} with allow_pickle"]
    if given.get("trust_remote_code", "False") != "False":
        return [f"{name} with trust_remote_code"]
    return []


def test_no_room_unpickles_anything():
    sources = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
    assert len(sources) > 100
    assert [fault for path in sources for fault in faults(path.read_text(), str(path.relative_to(ROOT)))] == []


@pytest.mark.parametrize(
    "line",
    [
        *("pickle.load(file)", "torch.load(path)", "torch.load(path, weights_only=False)", "eval(text)"),
        *("np.load(path, allow_pickle=True)", "pd.read_pickle(path)", "from pickle import loads"),
        *("AutoModel.from_pretrained(name, trust_remote_code=True)", "yaml.load(text)"),
    ],
)
def test_each_way_would_be_seen(line):
    assert len(faults(line, "x.py")) == 1
