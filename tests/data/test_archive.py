"""Unpacking: what belongs into the folder comes, and nothing that an archive holds reaches beyond it."""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.data.archive import unpack
from bench.data.nifti import DataError
from tests.data.archives import JSON, TASK, Member, member, write_bomb, write_tar


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def refused(tmp_path: Path, *members: Member) -> str:
    """The message; nothing may have been written anywhere."""
    archive = write_tar(tmp_path / "a.tar", members)
    before = files(tmp_path)
    with pytest.raises(DataError) as raised:
        unpack(archive, TASK, tmp_path / "out" / TASK)
    assert files(tmp_path) == before and not (tmp_path / "out").exists()
    assert "\n" not in str(raised.value) and str(raised.value).startswith(f"{archive}: ")
    return str(raised.value)


def test_a_task_comes_as_it_was(tmp_path: Path, make_task: Callable[..., Path]) -> None:
    made = make_task(tmp_path, name=TASK, cases=2)
    seen: list[tuple[int, int]] = []
    archive = write_tar(tmp_path / "a.tar", (), made)
    unpack(archive, TASK, tmp_path / "out", lambda done, total: seen.append((done, total)))
    assert files(tmp_path / "out") == files(made)
    total = sum(len(data) for data in files(made).values())
    assert seen[-1] == (total, total) and [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_leftovers_and_neighbours_stay_behind(tmp_path: Path) -> None:
    names = (
        *(f"._{TASK}", f"{TASK}/._dataset.json", f"{TASK}/imagesTr/._a.nii.gz", f"{TASK}/.DS_Store", "README"),
        *("__MACOSX/x", f"{TASK}/imagesTr/__MACOSX/x", f"{TASK}_more/x"),
    )
    archive = write_tar(tmp_path / "a.tar", [JSON, member(f"./{TASK}/imagesTr/a.nii.gz", b"a"), *map(member, names)])
    unpack(archive, TASK, tmp_path / "out")
    assert files(tmp_path / "out") == {"dataset.json": b"{}", "imagesTr/a.nii.gz": b"a"}


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (member("/etc/cron.d/x", b"x"), "'/etc/cron.d/x' is an absolute path"),
        (member(f"{TASK}/../../x", b"x"), "leads out of the folder"),
        (member("..", kind=tarfile.DIRTYPE), "'..' leads out of the folder"),
        (member(f"{TASK}/x", kind=tarfile.SYMTYPE, link="/etc/passwd"), "is a link (to '/etc/passwd')"),
        (member(f"{TASK}/x", kind=tarfile.SYMTYPE, link="../../x"), "is a link (to '../../x')"),
        (member(f"{TASK}/x", kind=tarfile.SYMTYPE, link="dataset.json"), "is a link (to 'dataset.json')"),
        (member(f"{TASK}/x", kind=tarfile.LNKTYPE, link="/etc/passwd"), "is a link (to '/etc/passwd')"),
        (member(f"{TASK}/x", kind=tarfile.CHRTYPE), "is neither a file nor a folder"),
        (member(f"{TASK}/x", kind=tarfile.BLKTYPE), "is neither a file nor a folder"),
        (member(f"{TASK}/x", kind=tarfile.FIFOTYPE), "is neither a file nor a folder"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_reaches_out_is_refused_before_anything_is_written(tmp_path: Path, bad: Member, words: str) -> None:
    text = refused(tmp_path, JSON, member(f"{TASK}/imagesTr/a.nii.gz", b"a"), bad)
    assert words in text and "nothing was unpacked" in text and "from another place" in text


def test_every_reason_is_counted(tmp_path: Path) -> None:
    text = refused(tmp_path, JSON, *(member(f"/{n}") for n in range(9)))
    assert "'/0' is" in text and "'/2' is" in text and "'/3'" not in text and "and 6 more" in text


def test_a_bomb_is_refused(tmp_path: Path) -> None:
    archive = write_bomb(tmp_path / "a.tar", 10**9)
    with tarfile.open(archive) as tar:
        assert [m.size for m in tar] == [2, 10**9]  # it is what it should be
    with pytest.raises(DataError, match=r"claim to hold 1000000002, which is a tar bomb"):
        unpack(archive, TASK, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_compressed_archive_is_none_of_ours(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "a.tar", [JSON, member(f"{TASK}/zeros", bytes(10**6))])
    archive.write_bytes(gzip.compress(archive.read_bytes()))
    with pytest.raises(DataError, match="damaged, or no plain tar archive"):
        unpack(archive, TASK, tmp_path / "out")


@pytest.mark.parametrize("keep", [0, 100, 700, 2000])
def test_a_cut_archive_is_damaged(tmp_path: Path, keep: int) -> None:
    archive = write_tar(tmp_path / "a.tar", [JSON, member(f"{TASK}/a", bytes(range(256)) * 8)])
    archive.write_bytes(archive.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"damaged|not the archive of this task|claim"):
        unpack(archive, TASK, tmp_path / "out")


def test_the_archive_of_another_task(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "a.tar", [member("Task09_Spleen/dataset.json", b"{}")])
    with pytest.raises(DataError, match=rf"holds no {TASK}/dataset.json"):
        unpack(archive, TASK, tmp_path / "out")


def test_room_is_asked_for_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = write_tar(tmp_path / "a.tar", [JSON])
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10))
    with pytest.raises(DataError, match="0 MB free; make room"):
        unpack(archive, TASK, tmp_path / "out")
    assert not (tmp_path / "out").exists()


PART = st.sampled_from(["..", ".", "a", "b", TASK, "._a", "", "/"])


@given(names=st.lists(st.lists(PART, min_size=1, max_size=6).map("/".join), max_size=6))
def test_no_name_leaves_the_folder(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    """Whatever names an archive holds: either it is refused whole, or all that is written lies in the folder."""
    place = tmp_path_factory.mktemp("place")
    archive = write_tar(place / "a.tar", [JSON, *(member(name, b"x") for name in names)])
    target = place / "in" / "out"
    target.parent.mkdir()
    try:
        unpack(archive, TASK, target)
    except DataError:
        assert any(".." in name.split("/") or name.startswith("/") for name in names) or _clash(names)
    assert set(place.rglob("*")) - set(target.rglob("*")) <= {archive, target, target.parent}


def _clash(names: list[str]) -> bool:
    """Two members of which one is a file where the other needs a folder: no archive of a real folder has them."""
    paths = [Path(TASK, "dataset.json"), *map(Path, names)]
    return any(a != b and b in a.parents for a in paths for b in paths)
