"""Every node of a cluster, looked at before the first trial: data, blocks, run folder, versions, room on the disk."""

from __future__ import annotations

import os
import platform
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from backbones.weights import cache_dir
from bench import provenance
from bench.data.disk import existing, gigabytes
from bench.data.facts import files_of
from bench.data.folder import open_task
from bench.running import StudyError
from bench.trial import TrialJob

_SECONDS_TO_ANSWER = 180.0
#: With less room than this in its cache, a node would soon fail to prepare cases.
_LEAST_ROOM = 1_000_000_000


@dataclass(frozen=True)
class Needs:
    """What trials need on a node, as it is here.

    files: path -> size. blocks: path of a block -> its backbone. mark: a file that was just written to the run folder,
    empty where none is needed. data is empty where nothing is trained.
    """

    data: str
    files: Mapping[str, int]
    blocks: Mapping[str, str]
    mark: str
    cache: str
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Seen:
    """What a node has of it: problems, one line each, and the bytes that are free where its cache is."""

    problems: tuple[str, ...]
    free: int = 0


def look_at_nodes(jobs: Sequence[TrialJob], shared: bool = True) -> list[str]:
    """A line a node; StudyError with a line a problem, each with the node's name.

    shared: every node has to see the run folder, as trials write to it.
    A node without a CPU, as a head that only manages, needs no data: a trial's coordinator may still come to lie on it.
    """
    there = [node for node in ray.nodes() if node["Alive"]]
    asked = ray.remote(num_cpus=0, max_retries=1)(look)
    with _marked(Path(jobs[0].run)) if shared else nullcontext() as mark:
        needs = needs_of(jobs, mark)
        both = {True: ray.put(needs), False: ray.put(replace(needs, data="", files={}, blocks={}))}
        answers = [asked.options(scheduling_strategy=_on(node)).remote(both[_trains(node)]) for node in there]
        found = [_answer(answer) for answer in answers]
    problems = [
        f"node {name_of(node)}: {text}" for node, seen in zip(there, found, strict=True) for text in seen.problems
    ]
    if problems:
        raise StudyError("\n".join(problems))
    return [_line(node, seen) for node, seen in zip(there, found, strict=True)]


def _trains(node: Mapping[str, Any]) -> bool:
    return bool(node["Resources"].get("CPU"))


def _on(node: Mapping[str, Any]) -> NodeAffinitySchedulingStrategy:
    return NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)


def name_of(node: Mapping[str, Any]) -> str:
    """The name that `ray start --node-name` gave it, else its host; and its address."""
    address = node["NodeManagerAddress"]
    name = node.get("NodeName") or address
    return f"{node['NodeManagerHostname'] if name == address else name} ({address})"


def _line(node: Mapping[str, Any], seen: Seen) -> str:
    has = node["Resources"]
    gpus = f", {has['GPU']:g} GPU" if has.get("GPU") else ""
    return f"node {name_of(node)}: {has.get('CPU', 0):g} CPU{gpus}, {gigabytes(seen.free)} free in its cache"


def needs_of(jobs: Sequence[TrialJob], mark: Path | None) -> Needs:
    """What these trials need, as it is on this machine; mark is None where they need no run folder."""
    data = jobs[0].data
    files: dict[str, int] = {}
    for task in dict.fromkeys(job.spec.task for job in jobs):
        for case in open_task(Path(data), task).cases:
            files |= {str(path): path.stat().st_size for path in files_of(case)}
    blocks = {str(block.path): block.backbone for job in jobs for block in (job.block, job.second) if block}
    return Needs(data, files, blocks, str(mark or ""), str(cache_dir().resolve()), versions())


def versions() -> dict[str, str]:
    """Of everything that must be the same on all nodes: packages, Python, and this code."""
    python = ".".join(platform.python_version_tuple()[:2])
    return provenance.versions() | {"Python": python, "this code": provenance.code()}


def look(needs: Needs) -> Seen:
    """Runs on each node. What is missing there, or is another than here."""
    problems = [*_data(needs), *_blocks(needs), *_run_folder(needs), *_versions(needs)]
    free = shutil.disk_usage(existing(Path(needs.cache))).free
    if free < _LEAST_ROOM:
        problems.append(
            f"{needs.cache} has {gigabytes(free)} free; prepared cases go there: make room, or name another"
        )
    return Seen(tuple(problems), free)


def _data(needs: Needs) -> Iterator[str]:
    if needs.data and not Path(needs.data).exists():
        yield f"the data {needs.data} are not there; every node needs them under this path: mount or copy them"
        return
    missing = [path for path in needs.files if not Path(path).is_file()]
    others = [path for path, size in needs.files.items() if path not in missing and Path(path).stat().st_size != size]
    for paths, what in ((missing, "are missing"), (others, "are of another size")):
        if paths:
            yield f"{len(paths)} of {len(needs.files)} data files {what}, first {paths[0]}; copy the data anew"


def _blocks(needs: Needs) -> Iterator[str]:
    for path, backbone in needs.blocks.items():
        if not Path(path).is_file():
            yield (
                f"the block of {backbone}, {path}, is not there; set BENCH_CACHE to a folder that all nodes share, or "
                "copy the file"
            )


def _run_folder(needs: Needs) -> Iterator[str]:
    mark = Path(needs.mark)
    if not needs.mark:
        return
    if not mark.is_file():
        yield f"the run folder {mark.parent} is not that of this command; give an --out that all nodes share"
    elif not os.access(mark.parent, os.W_OK):
        yield f"the run folder {mark.parent} may not be written to; give an --out that every node may write to"


def _versions(needs: Needs) -> Iterator[str]:
    here = versions()
    for name, wanted in needs.versions.items():
        if here[name] != wanted:
            yield f"{name} is {here[name]} there and {wanted} here; numbers may depend on it: install the same"


@contextmanager
def _marked(run: Path) -> Iterator[Path]:
    """A file that only those can see who see this very folder."""
    mark = run / f".seen-{uuid.uuid4().hex}"
    mark.touch()
    try:
        yield mark
    finally:
        mark.unlink(missing_ok=True)


def _answer(answer: Any) -> Seen:
    try:
        return ray.get(answer, timeout=_SECONDS_TO_ANSWER)
    except ray.exceptions.GetTimeoutError:
        return Seen((f"no answer in {_SECONDS_TO_ANSWER:.0f} s",))
    except Exception as error:  # whatever keeps a node from answering keeps it from training
        cause = (str(getattr(error, "cause", None) or error).strip().splitlines() or [type(error).__name__])[-1]
        hint = "; install this suite there, at the same commit" if "No module named" in cause else ""
        return Seen((f"cannot look there: {cause}{hint}",))
