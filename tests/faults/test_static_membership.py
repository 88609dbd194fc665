"""A worker with a name of its own in the group is restarted, and no partition moves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.faults.installation import Installation
from tests.faults.test_state import Ledger

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(240)]


def test_a_named_worker_that_is_back_in_time_moves_no_partition(tmp_path: Path) -> None:
    """Its keys are answered by the standby meanwhile, through the other worker."""
    installation = Installation(tmp_path, {"a": "all", "b": "all"}, {"METRICS_SESSION_TIMEOUT_S": "60"})
    for name, worker in installation.workers.items():
        worker.settings = {**worker.settings, "METRICS_INSTANCE_ID": name}
    with installation:
        a, b = installation.workers.values()
        ledger = Ledger(b)
        ledger.send()
        ledger.assert_exact(60)
        noted = json.loads((installation.data_dir("b") / "owners.json").read_text())
        assert {url.rstrip("/") for url in noted["map"]} == {a.url, b.url}, "what a worker that starts asks by"
        before = installation.counts("metrics_app_rebalances_total")["b"]
        assert a.stop() == 0
        assert ledger.found() == ledger.counts, "the standby of each key answers"
        installation.restart("a")
        ledger.send()
        ledger.assert_exact(60)
        assert installation.counts("metrics_app_rebalances_total")["b"] == before
