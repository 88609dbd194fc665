"""/metrics has what docs/metrics.md says, in a form that Prometheus' own tool finds nothing wrong with."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from metrics_app.telemetry import Telemetry
from tests import metrics_page

ROOT = Path(__file__).parent.parent
PARTS = ("_bucket", "_sum", "_count")


def listed() -> dict[str, str]:
    return {one.name: one.kind for metrics in Telemetry().lists.values() for one in metrics.listed}


def test_the_page_of_metrics_is_what_the_code_says_now() -> None:
    """After a change of a metric: `make docs`."""
    assert metrics_page.PAGE.read_text() == metrics_page.page()


def test_every_metric_that_is_shown_is_listed_and_the_other_way_round() -> None:
    shown = {
        f"{family.name}_total" if family.type == "counter" else family.name: family.type
        for family in text_string_to_metric_families(Telemetry().exposition().decode())
    }
    assert {name: kind for name, kind in shown.items() if name.startswith("metrics_app_")} == listed()
    assert "process_cpu_seconds_total" in shown


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool, of Debian's prometheus, is absent")
def test_prometheus_finds_nothing_wrong_with_the_names() -> None:
    shown = Telemetry().exposition()
    done = subprocess.run(["promtool", "check", "metrics"], input=shown, capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize("page", ["docs", "docker", "README.md"])
def test_every_metric_that_is_written_of_exists(page: str) -> None:
    files = [ROOT / page] if (ROOT / page).is_file() else [path for path in (ROOT / page).rglob("*") if path.is_file()]
    named = {
        (path.name, name)
        for path in files
        for name in re.findall(r"metrics_app_[a-z_]*[a-z](?![\w./])", path.read_text(errors="ignore"))
    }
    known = {*listed(), *(f"{name}{part}" for name, kind in listed().items() if kind == "histogram" for part in PARTS)}
    assert not {each for each in named if each[1] not in known}
