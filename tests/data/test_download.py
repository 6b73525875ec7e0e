"""`bench data get` against a server of ours: resumed, verified, refused, and what is told on every way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from bench.data.disk import gigabytes
from tests.bench.door import bench
from tests.data.archives import TASK, ArchiveServer, md5_of, write_tar


@pytest.fixture
def server(
    tmp_path: Path, cache: Path, make_task: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> Iterator[ArchiveServer]:
    """Holds the archive of a small Task04, whose checksum MONAI seems to know; pauses are short, the cache is empty."""
    from monai.apps.datasets import DecathlonDataset

    folder = make_task(tmp_path / "made", name=TASK, cases=2, size=40)
    archive = write_tar(tmp_path / "served" / f"{TASK}.tar", (), folder)
    monkeypatch.setitem(DecathlonDataset.md5, TASK, md5_of(archive))
    monkeypatch.setattr("backbones.ranges.PAUSE", 0.001)
    with ArchiveServer(archive.parent) as running:
        yield running


@pytest.fixture
def get(server: ArchiveServer, tmp_path: Path) -> Callable[..., tuple[int, str, str]]:
    """Run the command: exit code, what it prints, and what went to stderr."""

    def run(*more: str, source: str = "") -> tuple[int, str, str]:
        done = bench("data", "get", TASK, "--to", str(tmp_path / "data"), "--from", source or server.url, *more)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout, done.stderr

    return run


def size(server: ArchiveServer) -> int:
    return server.files()[f"{TASK}.tar"].stat().st_size


def partial(cache: Path) -> Path:
    return cache / "downloads" / f"{TASK}.tar.partial"


def test_addresses_and_checksums_are_monais():
    from monai.apps.datasets import DecathlonDataset

    from bench.data.download import archives
    from bench.data.tasks import DECATHLON

    found = archives([task.name for task in DECATHLON])
    assert [(a.address, a.md5) for a in found] == [
        (DecathlonDataset.resource[task.name], DecathlonDataset.md5[task.name]) for task in DECATHLON
    ]
    assert all(a.address.startswith("https://msd-for-monai.s3") for a in found)


def test_a_task_comes_whole_with_licence_and_citation(server, get, cache, tmp_path):
    code, out, err = get()
    assert code == 0, err
    assert "CC-BY-SA-4.0" in out and "medicaldecathlon.com" in out and "Antonelli" in out
    assert bench("data", "check", str(tmp_path / "data")).returncode == 0
    assert not any(path.is_file() and path.suffix == ".tar" for path in (cache / "downloads").iterdir())
    assert gigabytes(size(server)) in err
    before = len(server.requests)
    code, out, _ = get()
    assert code == 0 and "is there already" in out and "CC-BY-SA-4.0" in out and len(server.requests) == before


def test_a_kept_archive_is_used_again(server, get, cache, tmp_path):
    code, out, _ = get("--keep-archive")
    kept = cache / "downloads" / f"{TASK}.tar"
    assert code == 0 and str(kept) in out and md5_of(kept) == md5_of(server.files()[f"{TASK}.tar"])
    (tmp_path / "data" / TASK).rename(tmp_path / "away")
    server.faults.statuses = [(500, {})] * 9
    assert get("--keep-archive")[0] == 0


def test_a_broken_line_is_taken_up_where_it_broke(server, get):
    server.faults.drops = 2
    code, _, err = get()
    assert code == 0 and "try 2 of 5" in err
    assert server.ranges()[0] is None and all(server.ranges()[1:])
    assert server.sent == size(server)


def test_what_another_run_left_is_taken_up(server, get, cache):
    content = server.files()[f"{TASK}.tar"].read_bytes()
    partial(cache).parent.mkdir(parents=True)
    partial(cache).write_bytes(content[:1000])
    code, _, err = get()
    assert code == 0 and "going on after" in err
    assert server.ranges() == [f"bytes=1000-{len(content) - 1}"]
    assert server.sent == len(content) - 1000


def test_what_has_come_is_kept_when_the_server_gives_up(server, get, cache):
    server.faults.drops = 1
    server.faults.statuses = []
    code, _, err = get(source=server.url + "/none")
    assert code == 2 and f"{server.url}/none/{TASK}.tar" in err and "answered 404" in err and "--from" in err
    handler = server.servers["hub"].RequestHandlerClass
    pour = handler.pour_file

    def pour_then_fail(self, *arguments):
        pour(self, *arguments)
        server.faults.statuses = [(503, {})] * 20

    handler.pour_file = pour_then_fail
    code, _, err = get()
    assert code == 2 and "answered 503" in err and "what has come is kept" in err
    assert 0 < partial(cache).stat().st_size < size(server)
    handler.pour_file = pour
    server.faults.statuses = []
    assert get()[0] == 0 and server.sent == size(server)


def test_a_download_that_is_stopped_is_kept(server, get, cache, monkeypatch):
    """Ctrl-C after the first piece: exit code 130, and the next run goes on behind it."""
    written = Path.open

    def stop(path, *arguments, **more):
        if path == partial(cache) and path.exists() and path.stat().st_size:
            raise KeyboardInterrupt
        return written(path, *arguments, **more)

    server.faults.drops = 1
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", stop)
        code, _, err = get()
    assert code == 130 and "what has come is kept" in err and 0 < partial(cache).stat().st_size < size(server)
    assert get()[0] == 0 and server.sent == size(server)


def test_a_server_without_ranges_sends_it_again(server, get):
    server.faults.drops, server.faults.ranges = 1, False
    assert get()[0] == 0
    first, again, whole = server.ranges()
    assert first is None and again == f"bytes={size(server) // 2}-{size(server) - 1}" and whole is None


def test_a_partial_file_of_something_else_is_thrown_away_once(server, get, cache):
    partial(cache).parent.mkdir(parents=True)
    partial(cache).write_bytes(b"x" * 5000)
    code, _, err = get()
    assert code == 0 and "wrong checksum" in err and "starting again" in err


@pytest.mark.parametrize("length", [None, 100, 10**7], ids=["same", "shorter", "longer"])
def test_wrong_bytes_are_refused_and_removed(server, get, cache, tmp_path, length):
    path = server.files()[f"{TASK}.tar"]
    true = md5_of(path)
    path.write_bytes(b"y" * (length or path.stat().st_size))
    code, out, err = get()
    assert code == 2 and out == "" and f"{server.url}/{TASK}.tar: wrong checksum: MD5 is {md5_of(path)}" in err
    assert f"expected {true}" in err and "try again" in err
    assert not partial(cache).exists() and not (tmp_path / "data" / TASK).exists()


def test_no_network(get):
    code, _, err = get(source="http://127.0.0.1:9")
    assert code == 2 and "127.0.0.1:9" in err and "cannot be reached" in err and "mirror" in err


def test_offline(get):
    done = bench("data", "get", TASK, HF_HUB_OFFLINE="1")
    assert done.returncode == 2 and "HF_HUB_OFFLINE is set" in done.stderr and "--from" in done.stderr


def test_a_full_disk_is_seen_before_the_first_byte(server, get, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10**6))
    code, _, err = get()
    assert code == 2 and "1 MB free" in err and "make room" in err and server.sent == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_disk_that_fills_up_on_the_way(get, cache):
    partial(cache).parent.mkdir(parents=True)
    partial(cache).symlink_to("/dev/full")
    code, _, err = get()
    assert code == 2 and "the disk is full" in err and str(partial(cache)) in err


def test_a_folder_of_archives_needs_no_server(server, get, cache):
    code, _, err = get(source=str(server.folder))
    assert code == 0, err
    assert server.requests == [] and (server.folder / f"{TASK}.tar").exists() and not partial(cache).parent.exists()


def test_a_mirror_in_the_environment(server, tmp_path):
    done = bench("data", "get", TASK, "--to", str(tmp_path / "data"), BENCH_MSD_MIRROR=server.url)
    assert done.returncode == 0 and server.ranges() == [None]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["Task04"], ["unknown task 'Task04'; did you mean 'Task04_Hippocampus'?", "available: all, Task01"]),
        (["Task11_X", "Task04_Hipocampus"], ["'Task11_X'", "did you mean 'Task04_Hippocampus'"]),
        ([TASK, "--from", "ftp://host"], ["--from ftp://host: only http and https"]),
        ([TASK, "--from", "/nowhere"], ["--from /nowhere: no such folder"]),
        ([TASK, "--to", "{file}"], ["is no folder; give a folder to write to"]),
        ([TASK, "--to", "{taken}"], [f"{TASK}: is there, but has no dataset.json"]),
        ([TASK, "--from", "{taken}"], [f"{TASK}.tar: file is missing"]),
    ],
    ids=str,
)
def test_wrong_turns_are_named(tmp_path, arguments, words):
    (tmp_path / "file").touch()
    (tmp_path / "taken" / TASK).mkdir(parents=True)
    places = {"file": str(tmp_path / "file"), "taken": str(tmp_path / "taken")}
    arguments = [argument.format(**places) for argument in arguments]
    if "--to" not in arguments:
        arguments += ["--to", str(tmp_path / "data")]
    done = bench("data", "get", *arguments)
    assert done.returncode == 2 and all(word in done.stderr for word in words), done.stderr
    assert "Traceback" not in done.stderr


def test_no_token_is_sent(server, get, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert get()[0] == 0
    assert server.sent and all(request.token is None for request in server.requests)


def test_two_that_want_one_archive_take_turns_until_it_is_removed(server, cache, tmp_path, monkeypatch):
    """Unpacking is slow here, so that the second one finds the archive while the first one is about to remove it."""
    from bench import decathlon

    def slow(*arguments: object) -> None:
        time.sleep(0.3)
        unpack(*arguments)

    def work(place: str) -> None:
        decathlon.get_tasks((TASK,), tmp_path / place, server.url, False, Console(quiet=True))

    unpack = decathlon.unpack
    monkeypatch.setattr(decathlon, "unpack", slow)
    for places in (("one", "one"), ("two", "three")):
        with ThreadPoolExecutor(2) as pool:
            assert list(pool.map(work, places)) == [None, None]
        assert all((tmp_path / place / TASK / "dataset.json").is_file() for place in places)
    assert not (cache / "downloads" / f"{TASK}.tar").exists()


def test_all_names_each_task_once():
    from bench.decathlon import _named

    assert len(_named(("all", TASK))) == 10
    assert _named((TASK, TASK)) == [TASK]
