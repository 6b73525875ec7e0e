"""`bench monitor`: files with which Prometheus fetches what Ray tells of running trials, and Grafana draws it.

Formats: Prometheus' configuration with file-based service discovery, Grafana's provisioning and its dashboard model.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from bench import driver
from bench.gauges import COUNTERS, GAUGES, HELD_OUT, TRIALS
from results.store import atomic_write

_SECONDS = 10  # Ray's processes tell their numbers so often
_SOURCE = {"type": "prometheus", "uid": "bench-prometheus"}
_CHOSEN = '{task=~"$task", backbone=~"$backbone"}'
_BY = "by (task, backbone, control)"
_LEGEND = "{{task}} {{backbone}} {{control}}"
_TITLES = {
    "bench_loss": "Training loss",
    "bench_training_dice": "Training Dice (crops)",
    "bench_validation_dice": "Validation Dice (crops of held-out cases)",
    "bench_samples_per_second": "Samples a second",
    "bench_epoch": "Epoch",
    "bench_share": "Share of the trial done",
    HELD_OUT: "Dice of held-out cases",
    "bench_samples": "Samples a second, all trials together",
    TRIALS: "Trials ended",
}


def default_targets() -> Path:
    """Where Ray lists the metrics ports of the cluster that was started last on this machine."""
    return Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()) / "ray" / "prom_metrics_service_discovery.json"


def targets_of(run: Path | None) -> Path:
    """The list of ports of the Ray on which a run is at work; of the latest where none is named, or none is at work."""
    working = driver.working(run) if run else None
    return Path(working.targets) if working and working.targets else default_targets()


def write(to: Path, targets: Path) -> list[Path]:
    """Write the files into a folder; returns them. OSError where the folder takes none."""
    to = to.resolve()
    files = {
        to / "prometheus.yml": _SCRAPE.format(seconds=_SECONDS, targets=json.dumps(str(targets))),
        to / "grafana.ini": _GRAFANA.format(provisioning=to / "provisioning", data=to / "grafana-data"),
        to / "provisioning" / "datasources" / "bench.yml": _DATA_SOURCE.format(uid=_SOURCE["uid"]),
        to / "provisioning" / "dashboards" / "bench.yml": _PROVIDER.format(folder=json.dumps(str(to / "dashboards"))),
        to / "dashboards" / "bench.json": json.dumps(dashboard(), indent=1) + "\n",
    }
    for path, text in files.items():
        atomic_write(path, text.encode())
    return list(files)


def how_to_start(to: Path) -> str:
    """What to type, both on 127.0.0.1 alone."""
    to = to.resolve()
    return (
        "start both, each in its own shell:\n"
        f"  prometheus --config.file={to / 'prometheus.yml'} --storage.tsdb.path={to / 'prometheus-data'} "
        "--web.listen-address=127.0.0.1:9090\n"
        f"  grafana server --homepath /usr/share/grafana --config {to / 'grafana.ini'}\n"
        "then open http://127.0.0.1:3000/d/bench"
    )


def dashboard() -> dict[str, Any]:
    """The Grafana dashboard: a panel a gauge or counter, by task and backbone, which its variables choose."""
    names = (*GAUGES, *COUNTERS)
    return {
        "uid": "bench",
        "title": "Trials",
        "tags": ["bench"],
        "schemaVersion": 39,
        "refresh": f"{_SECONDS}s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_variable(name) for name in ("task", "backbone")]},
        "panels": [_panel(number, name) for number, name in enumerate(names)],
    }


def expression(name: str) -> str:
    """What a panel asks of Prometheus. A gauge of a trial that ended is NaN, which no comparison lets through."""
    if name == TRIALS:
        return f"sum by (outcome) (ray_{name}_total{_CHOSEN})"
    if name in COUNTERS:
        return f"sum {_BY} (rate(ray_{name}_total{_CHOSEN}[1m]))"
    return f"avg {_BY} (ray_{name}{_CHOSEN} >= 0)"


def _panel(number: int, name: str) -> dict[str, Any]:
    limits = {"min": 0, "max": 1} if name.endswith("_dice") or name == "bench_share" else {"min": 0}
    legend = "{{outcome}}" if name == TRIALS else _LEGEND
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": _TITLES[name],
        "description": (GAUGES | COUNTERS)[name],
        "datasource": _SOURCE,
        "gridPos": {"x": 12 * (number % 2), "y": 8 * (number // 2), "w": 12, "h": 8},
        "fieldConfig": {"defaults": limits, "overrides": []},
        "targets": [{"refId": "A", "datasource": _SOURCE, "expr": expression(name), "legendFormat": legend}],
    }


def _variable(label: str) -> dict[str, Any]:
    query = f"label_values(ray_bench_share, {label})"
    return {
        "name": label,
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": label},
        "definition": query,
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


_SCRAPE = """\
# Ray lists its metrics ports in a file, which Prometheus reads again whenever it changes.
global:
  scrape_interval: {seconds}s
scrape_configs:
  - job_name: ray
    file_sd_configs:
      - files: [{targets}]
"""
_GRAFANA = """\
[server]
http_addr = 127.0.0.1
http_port = 3000
[paths]
provisioning = {provisioning}
data = {data}
[analytics]
reporting_enabled = false
check_for_updates = false
"""
_DATA_SOURCE = """\
apiVersion: 1
datasources:
  - name: bench
    uid: {uid}
    type: prometheus
    access: proxy
    url: http://127.0.0.1:9090
    isDefault: true
"""
_PROVIDER = """\
apiVersion: 1
providers:
  - name: bench
    type: file
    options:
      path: {folder}
"""
