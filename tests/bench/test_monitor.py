"""`bench monitor` writes what Prometheus and Grafana take, about numbers that there are."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

from bench import driver, monitor, plan
from bench.gauges import COUNTERS, GAUGES
from tests.results import fake


def test_files_are_whole_and_lead_to_each_other(bench, tmp_path):
    code, out, _ = bench("monitor", "--to", "a b")
    folder = tmp_path / "a b"
    assert code == 0 and "127.0.0.1:9090" in out and str(folder / "prometheus.yml") in out
    scrape = yaml.safe_load((folder / "prometheus.yml").read_text())
    (job,) = scrape["scrape_configs"]
    assert job["file_sd_configs"] == [{"files": [str(monitor.default_targets())]}]
    (source,) = yaml.safe_load((folder / "provisioning/datasources/bench.yml").read_text())["datasources"]
    assert source["url"] == "http://127.0.0.1:9090"
    (provider,) = yaml.safe_load((folder / "provisioning/dashboards/bench.yml").read_text())["providers"]
    (file,) = Path(provider["options"]["path"]).iterdir()
    drawn = json.loads(file.read_text())
    assert {target["datasource"]["uid"] for panel in drawn["panels"] for target in panel["targets"]} == {source["uid"]}
    assert "http_addr = 127.0.0.1" in (folder / "grafana.ini").read_text()
    assert f"provisioning = {folder / 'provisioning'}" in (folder / "grafana.ini").read_text()


def test_every_number_has_a_panel_and_no_panel_asks_for_another():
    asked = [target["expr"] for panel in monitor.dashboard()["panels"] for target in panel["targets"]]
    names = [re.findall(r"ray_(\w+?)(?:_total)?\{", text) for text in asked]
    assert sorted(name for found in names for name in found) == sorted((*GAUGES, *COUNTERS))
    places = [tuple(panel["gridPos"].values()) for panel in monitor.dashboard()["panels"]]
    assert len(set(places)) == len(places)


def test_a_run_at_work_is_watched_on_its_own_ray(bench, tmp_path):
    run = tmp_path / "run"
    code, _, err = bench("monitor", "nowhere", "--to", "out")
    assert code == 2 and "nowhere" in err
    plan.remember(run, [fake.spec()])
    with driver.at_work(run, "http://127.0.0.1:1", "/tmp/ray/session_7/targets.json"):
        assert bench("monitor", run, "--to", "out")[0] == 0
    assert '"/tmp/ray/session_7/targets.json"' in (tmp_path / "out" / "prometheus.yml").read_text()
    assert bench("monitor", run, "--to", "out")[0] == 0
    assert "session_7" not in (tmp_path / "out" / "prometheus.yml").read_text()


def test_a_folder_that_takes_no_file_is_named(bench, tmp_path):
    (tmp_path / "file").touch()
    code, _, err = bench("monitor", "--to", "file")
    assert code == 2 and "--to file" in err
