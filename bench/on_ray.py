"""Around whatever runs on Ray: how it is begun, and the exit code of what ends it early."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, NoReturn

from rich.console import Console

from bench.errors import INTERRUPTED, TERMINATED
from bench.stopping import Stop, Terminated
from bench.study import StudySpec
from bench.trial import TrialJob

if TYPE_CHECKING:
    from bench.launch.session import Dashboard

_GOES_ON = "the same command goes on from here"


@dataclass(frozen=True)
class Kept:
    """What is left when work ends before its end, in words: after Ctrl-C, and after SIGTERM, which has grace."""

    interrupted: str
    terminated: str


def begin(
    study: StudySpec,
    plan: Callable[[], list[TrialJob]],
    kept: Kept,
    stop: Stop,
    console: Console,
    shared: bool = True,
) -> tuple[Dashboard, list[TrialJob]]:
    """Start Ray here, or join the study's cluster and look at its nodes; StudyError tells what they lack.

    plan is called meanwhile, in a thread: Ray wants the main one. It may print, but not compute: OpenBLAS waits for its
    threads before a process is begun, and they for it. What it raises is raised first.
    shared: every node has to see the run folder.
    """
    from bench import launch

    def planned() -> list[TrialJob]:
        jobs = plan()
        console.print(f"joining Ray at {study.address} …" if study.address else "starting Ray …", highlight=False)
        import_module("bench.launch.jobs")  # Ray Tune takes half a second
        return jobs

    with ThreadPoolExecutor(1, "plan") as pool:
        planning = pool.submit(planned)
        try:
            ray = launch.start(address=study.address, gpus=study.gpus_per_worker)
            stop.listen()
        finally:
            jobs = planning.result()
    console.print(ray.words(console.is_terminal), highlight=False, markup=False)
    if study.address:
        launch.on_lost_head(lambda: _leave("the head of the cluster is gone", kept, console))
        for line in launch.look_at_nodes(jobs, shared):
            console.print(line, highlight=False, markup=False)
    return ray, jobs


def exit_code(work: Callable[[], None], kept: Kept, stop: Stop, console: Console) -> int:
    """Do work that `begin`s Ray, and end it; 0, or the exit code of what ended the work early.

    Where Ray itself died, the command begins again. If it may not, as on a cluster, this process ends with exit code 1.
    """
    from bench import launch

    try:
        work()
    except KeyboardInterrupt:
        console.print(f"stopped; {kept.interrupted}, {_GOES_ON}")
        return INTERRUPTED
    except Terminated:
        console.print(f"stopped by SIGTERM; {kept.terminated}, {_GOES_ON}")
        return TERMINATED
    except launch.RayGone as error:
        if launch.may_begin_anew():
            console.print(f"{error}; the command begins again, and {kept.terminated}")
            launch.begin_anew()
        _leave(str(error), kept, console)
    finally:
        stop.trials(False)
        launch.stop()
    return 0


def _leave(reason: str, kept: Kept, console: Console) -> NoReturn:
    from bench import launch

    console.print(f"{reason}; {kept.terminated}, and once Ray can be had again {_GOES_ON}")
    launch.leave(1)
