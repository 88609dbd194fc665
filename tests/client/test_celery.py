"""A real Celery worker that forks, with a broker in a folder: its children end by `os._exit`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.faults.pace import stretched

from .collector import Collector

pytest.importorskip("celery")

APP = """
import os
from celery import Celery
from metrics_app import MetricsClient, Options
from metrics_app.client.celery import time_tasks

app = Celery("jobs", broker="filesystem://")
app.conf.broker_transport_options = {"data_folder_in": "queue", "data_folder_out": "queue", "control_folder": "control"}
app.conf.update(worker_hijack_root_logger=False, broker_connection_retry_on_startup=True)
client = MetricsClient(os.environ["URL"], Options(interval_s=60, exit_timeout_s=20, connect_timeout_s=10))
time_tasks(client)

@app.task
def work():
    for _ in range(20): client.record("job", 1.0)

if __name__ == "__main__":
    for _ in range(20): work.delay()
"""


def test_children_of_celery_that_end_after_some_tasks_send_what_they_have(collector: Collector, tmp_path: Path) -> None:
    for name in ("queue", "control"):
        (tmp_path / name).mkdir()
    (tmp_path / "jobs.py").write_text(APP)
    environment = {**os.environ, "URL": collector.url}
    subprocess.run([sys.executable, "jobs.py"], cwd=tmp_path, env=environment, check=True, timeout=60)
    command = [sys.executable, "-m", "celery", "-A", "jobs", "worker", "-c", "2", "--max-tasks-per-child", "3"]
    with (tmp_path / "log").open("w") as log:
        worker = subprocess.Popen([*command, "-l", "info"], cwd=tmp_path, env=environment, stdout=log, stderr=log)
    try:
        until = time.monotonic() + stretched(60)
        while (tmp_path / "log").read_text().count("succeeded") < 20 and time.monotonic() < until:
            time.sleep(0.2)
        worker.send_signal(signal.SIGTERM)
        worker.wait(60)
        while (collector.counted("job") < 400 or collector.counted("jobs.work") < 20) and time.monotonic() < until:
            time.sleep(0.1)  # Celery does not wait for children that are ending
    finally:
        worker.kill()
        worker.wait()
    assert (collector.counted("job"), collector.missing("job")) == (400, 0), (tmp_path / "log").read_text()
    assert collector.counted("jobs.work") == 20, "each task is timed in the child that ran it"
