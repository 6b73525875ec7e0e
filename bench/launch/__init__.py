"""The only room that imports Ray: jobs in, finished records on disk out.

`session` starts and stops Ray, with our `switches`, or joins a `cluster` whose `nodes` are looked at; `resources`
says how many trials fit, `jobs` runs them, through the `client` where need be, and `watch` listens to them. `jobs` and
`search` import Ray Tune, which takes half a second: whoever needs them imports them by name, while Ray starts.
"""

from __future__ import annotations

import logging
import os

# Set before Ray is imported: it sends usage statistics home otherwise, and prints notices over the progress bar.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
# Tune runs each trial in a thread of its own, and glibc gives each thread its own heap and never takes it back: 50 MB
# a trial in a process that serves many. Workers inherit this.
os.environ.setdefault("MALLOC_ARENA_MAX", "1")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
# Ray gives its dashboard a minute to come up, and then its raylet half a minute. Here they come up side by side.
os.environ.setdefault("RAY_raylet_start_wait_time_s", "90")
os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")

from bench.launch.nodes import look_at_nodes
from bench.launch.session import RayGone, begin_anew, leave, may_begin_anew, on_lost_head, start, stop

__all__ = [
    "RayGone",
    "begin_anew",
    "leave",
    "look_at_nodes",
    "may_begin_anew",
    "on_lost_head",
    "start",
    "stop",
]

logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # failures are told by our records, once
