"""The alerts of docker/prometheus fire when they should and are silent otherwise, as Prometheus' own tool finds."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
RULES = ROOT / "docker" / "prometheus" / "alerts.yml"
AT = "1h"
ONE = 'job="metrics-app",instance="a"'

pytestmark = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool, of Debian's prometheus, is absent")

# series of a service in which nothing is wrong: names with values at each minute, as promtool writes them
WELL = {
    f"up{{{ONE}}}": "1x90",
    f"process_start_time_seconds{{{ONE}}}": "1x90",
    f"process_open_fds{{{ONE}}}": "50x90",
    f"process_max_fds{{{ONE}}}": "1000x90",
    f"metrics_app_ready{{{ONE}}}": "1x90",
    f"metrics_app_received_values_total{{{ONE}}}": "0+60000x90",
    f'metrics_app_rejected_values_total{{{ONE},reason="value"}}': "0+60x90",
    f'metrics_app_refused_values_total{{{ONE},reason="kafka"}}': "7x90",
    f'metrics_app_client_dropped_values_total{{{ONE},reason="overflow"}}': "7x90",
    f'metrics_app_lag_records{{{ONE},partition="0"}}': "10x90",
    f"metrics_app_stopped_partitions{{{ONE}}}": "0x90",
    f'metrics_app_dead_lettered_records_total{{{ONE},reason="fold"}}': "3x90",
    f"metrics_app_flushes_total{{{ONE}}}": "0+60x90",
    f"metrics_app_flush_failures_total{{{ONE}}}": "2x90",
    f"metrics_app_recovering_records{{{ONE}}}": "0x90",
    f"metrics_app_partitions{{{ONE}}}": "8x90",
    f"metrics_app_owned_partitions{{{ONE}}}": "8x90",
    f"metrics_app_watchdog_suspicion{{{ONE}}}": "0x90",
    f'metrics_app_clock_difference_seconds{{{ONE},role="collector"}}': "-0.1x90",
    f'metrics_app_event_loop_delay_seconds_bucket{{{ONE},le="0.25"}}': "0+60x90",
    f'metrics_app_event_loop_delay_seconds_bucket{{{ONE},le="1.0"}}': "0+60x90",
    f'metrics_app_event_loop_delay_seconds_bucket{{{ONE},le="+Inf"}}': "0+60x90",
    f'metrics_app_ack_seconds_bucket{{{ONE},le="1.0"}}': "0+60x90",
    f'metrics_app_ack_seconds_bucket{{{ONE},le="10.0"}}': "0+60x90",
    f'metrics_app_ack_seconds_bucket{{{ONE},le="+Inf"}}': "0+60x90",
    f'metrics_app_forwards_total{{{ONE},outcome="unreachable"}}': "7x90",
    f"metrics_app_log_truncated_total{{{ONE}}}": "1x90",
    f"metrics_app_lost_records_total{{{ONE}}}": "5x90",
    f'metrics_app_freshness_seconds_bucket{{{ONE},le="5.0"}}': "0+997x90",
    f"metrics_app_freshness_seconds_count{{{ONE}}}": "0+1000x90",
    f'metrics_app_query_seconds_bucket{{{ONE},asker="client",le="0.1"}}': "0+997x90",
    f'metrics_app_query_seconds_count{{{ONE},asker="client"}}': "0+1000x90",
}

# alert -> which of these series is another one where it has to fire
SICK = {
    "MetricsAppDown": {"up{": "1x50 0x40"},
    "MetricsAppNotReady": {"metrics_app_ready": "1x50 0x40"},
    "MetricsAppRefusesValues": {"metrics_app_refused": "0+100x90"},
    "MetricsAppRejectsMany": {"metrics_app_rejected": "0+2000x90"},
    "MetricsAppClientsDrop": {"metrics_app_client_dropped": "_x55 3x40"},  # a counter that begins with its first drop
    "MetricsAppLagGrows": {"metrics_app_lag": "0+100x90"},
    "MetricsAppPartitionStopped": {"metrics_app_stopped": "0x50 1x40"},
    "MetricsAppDeadLetters": {"metrics_app_dead_lettered": "_x55 1x40"},
    "MetricsAppFlushFails": {"metrics_app_flushes": "9x90", "metrics_app_flush_failures": "0+5x90"},
    "MetricsAppSlowRecovery": {"metrics_app_recovering": "0x30 9000x60"},
    "MetricsAppUnowned": {"metrics_app_owned": "8x50 6x40"},
    "MetricsAppStandsStill": {"metrics_app_watchdog": "0x50 1x40"},
    "MetricsAppClocksDiffer": {"metrics_app_clock_difference": "0x50 -7x40"},
    "MetricsAppEventLoopLate": {"metrics_app_event_loop_delay_seconds_bucket{" + ONE + ',le="0.25': "0+50x90"},
    "MetricsAppKafkaSlow": {"metrics_app_ack_seconds_bucket{" + ONE + ',le="1': "0+50x90"},
    "MetricsAppPeersUnreachable": {"metrics_app_forwards": "0+60x90"},
    "MetricsAppLogCut": {"metrics_app_log_truncated": "1x55 2x40"},
    "MetricsAppRestarts": {"process_start_time": "1x40 2x3 3x3 4x3 5x3 6x40"},
    "MetricsAppDescriptors": {"process_open_fds": "900x90"},
    "MetricsAppLosesValues": {"metrics_app_lost": "5x55 6x40"},
    "MetricsAppFreshness": {"metrics_app_freshness_seconds_bucket": "0+800x90"},
    "MetricsAppAnswersSlow": {"metrics_app_query_seconds_bucket": "0+800x90"},
}


def test_each_alert_has_its_test_and_its_entry_in_the_runbook() -> None:
    alerts = re.findall(r"alert: (\w+)", RULES.read_text())
    headings = re.findall(r"^## (\w+)$", (ROOT / "docs" / "runbook.md").read_text(), re.MULTILINE)
    assert set(alerts) == set(SICK)
    assert [name for name in headings if name.startswith("MetricsApp")] == list(dict.fromkeys(alerts))
    assert re.findall(r"runbook: (.+)", RULES.read_text()) == [f"docs/runbook.md#{name.lower()}" for name in alerts]


def test_no_alert_fires_while_all_is_well(tmp_path: Path) -> None:
    wanted = [_expression('ALERTS{alertstate="firing"}', [])]
    _run(tmp_path, [_case(WELL, wanted)])


@pytest.mark.parametrize("alert", SICK)
def test_an_alert_fires_when_it_should(alert: str, tmp_path: Path) -> None:
    series = {name: _values(name, values, SICK[alert]) for name, values in WELL.items()}
    assert series != WELL
    firing = f'count by (alertname) (ALERTS{{alertstate="firing",alertname="{alert}"}} > 0) > bool 0'
    _run(tmp_path, [_case(series, [_expression(firing, [{"labels": f'{{alertname="{alert}"}}', "value": 1}])])])


def _values(name: str, values: str, changed: dict[str, str]) -> str:
    return next((other for begin, other in changed.items() if name.startswith(begin)), values)


def _expression(expr: str, samples: list[dict[str, Any]]) -> dict[str, Any]:
    return {"expr": expr, "eval_time": AT, "exp_samples": samples}


def _case(series: dict[str, str], expressions: list[dict[str, Any]]) -> dict[str, Any]:
    given = [{"series": name, "values": values} for name, values in series.items()]
    return {"interval": "1m", "input_series": given, "promql_expr_test": expressions}


def _run(folder: Path, tests: list[dict[str, Any]]) -> None:
    file = folder / "test.yml"
    file.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    done = subprocess.run(["promtool", "test", "rules", file], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
