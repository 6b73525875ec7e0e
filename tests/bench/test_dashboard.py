"""Ray's dashboard during a run: asks for its token, and shows the job; the metrics port tells our numbers."""

from __future__ import annotations

import contextlib
import json
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bench import driver
from bench.gauges import COUNTERS, GAUGES, TAGS
from tests.bench.long_run import TOKEN, running
from tests.reports import browser

pytestmark = pytest.mark.slow


def fetch(address: str, token: str = "") -> tuple[int, str]:
    request = urllib.request.Request(address, headers={"Authorization": f"Bearer {token}"} if token else {})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""


def until(window: browser.Browser, expression: str, seconds: float = 90) -> None:
    """Asked anew each time: the page loads itself again once it has its token, which ends a script that waits."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(browser.BrowserError):
            if window.run(f"return {expression}"):
                return
        time.sleep(0.5)
    pytest.fail(f"not within {seconds} s: {expression}")


@pytest.mark.skipif(bool(browser.MISSING), reason=browser.MISSING)
def test_the_dashboard_asks_for_its_token_and_shows_the_job(tiny_msd, tmp_path):
    run = tmp_path / "run"
    with running(tiny_msd, run), browser.browser(tmp_path / "profile") as window:
        found = driver.working(run)
        assert found and found.dashboard.startswith("http://127.0.0.1:")
        jobs = f"{found.dashboard}/api/v0/tasks"
        assert [fetch(jobs)[0], fetch(jobs, "wrong" * 10)[0], fetch(jobs, TOKEN)[0]] == [401, 403, 200]

        window.open(f"{found.dashboard}/#/jobs")
        until(window, "document.querySelector('[role=dialog] input') !== null")
        assert "bench run" not in window.run("return document.body.innerText")
        window.keys("[role=dialog] input", TOKEN)
        window.run("[...document.querySelectorAll('[role=dialog] button')].at(-1).click()")
        until(window, "document.body.innerText.includes('bench run')")
        assert "RUNNING" in window.run("return document.body.innerText")
    assert TOKEN not in (tmp_path / "run.log").read_text()
    assert not [path for path in run.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]


def test_the_metrics_port_tells_every_number_of_ours(tiny_msd, tmp_path):
    run = tmp_path / "run"
    wanted = {f"ray_{name}" for name in (*GAUGES, *COUNTERS)}
    with running(tiny_msd, run):
        deadline, families = time.monotonic() + 90, {}
        while not wanted <= set(families) and time.monotonic() < deadline:
            time.sleep(2)
            families = {one.name: one.samples for port in _targets(run) for one in _read(port)}
        assert wanted <= set(families), sorted(name for name in families if "bench" in name)
    for name in sorted(wanted):
        labels = families[name][0].labels
        assert set(TAGS) <= set(labels) and labels["task"] == "Task99_Tiny" and labels["backbone"] == "none", name


def _targets(run: Path) -> list[str]:
    found = driver.working(run)
    path = Path(found.targets) if found else Path("none")
    return [port for group in json.loads(path.read_text()) for port in group["targets"]] if path.is_file() else []


def _read(port: str):
    assert port.startswith("127.0.0.1:")
    try:
        return list(text_string_to_metric_families(fetch(f"http://{port}/metrics")[1]))
    except OSError:
        return []
