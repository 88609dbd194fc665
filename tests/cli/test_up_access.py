"""`metrics-app up` with tokens: its workers trust each other, and nobody else sees anything."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
import urllib3
from typer.testing import CliRunner

from metrics_app.cli.main import app
from metrics_app.http.tokens import new_token
from metrics_app.kafka.embedded import EmbeddedKafka
from tests.cli.test_up import Up, of_the_test, unused_port, wait_for

KEYS = [f"shop/{number}" for number in range(12)]


@pytest.mark.kafka
def test_workers_with_tokens_answer_for_each_other_and_keep_their_files_to_themselves(
    kafka: EmbeddedKafka, tmp_path: Path
) -> None:
    token, line = new_token("shop", ["ingest", "query"], ["shop/"])
    tokens = tmp_path / "tokens"
    tokens.touch(mode=0o600)
    tokens.write_text(line)
    settings = {**of_the_test(kafka, unused_port()), "METRICS_TOKENS_FILE": str(tokens)}
    with Up(tmp_path, settings, workers=2) as up:
        up.await_ready()
        headers = {"Authorization": f"Bearer {token}"}
        assert up.post() == 401
        at = datetime.now(UTC)
        body = "\n".join(f'["{key}", 5, {at.timestamp()}]' for key in KEYS)
        kind = {"Content-Type": "application/x-ndjson"}
        sent = urllib3.request("POST", f"{up.url}/samples", body=body, headers=headers | kind, retries=False)
        assert (sent.status, sent.json()["accepted"]) == (202, len(KEYS))

        def counts(port: int) -> set[int]:
            urls = [f"http://127.0.0.1:{port}/shop%2F{i}/count/{at:%Y-%m-%d}/{at.hour}" for i in range(len(KEYS))]
            return {urllib3.request("GET", url, headers=headers, retries=False).json().get("value") for url in urls}

        wait_for(lambda: counts(up.port) == {1} == counts(up.port + 1))
        forwards = [
            urllib3.request("GET", f"http://127.0.0.1:{port}/metrics", headers=headers).data.decode()
            for port in (up.port, up.port + 1)
        ]
        assert all('metrics_app_forwards_total{outcome="answered"}' in text for text in forwards), forwards
        listing = urllib3.request("GET", f"{up.url}/keys?limit=100", headers=headers).json()
        assert (listing["keys"], listing["complete"]) == (sorted(KEYS), True)
        _check_files(up.folder)
        _check_processes(up.process, token)
        said = "".join(log.read_text() for log in (up.folder / "logs").glob("*.log")) + up.said()
        assert token not in said


def _check_files(folder: Path) -> None:
    paths = [folder, *folder.rglob("*")]
    assert {"logs", "run", "worker-0", "worker-0.log", "worker-0.pid"} <= {path.name for path in paths}
    modes = {str(path.relative_to(folder)): oct(path.stat().st_mode & 0o777) for path in paths if not path.is_symlink()}
    assert {name: mode for name, mode in modes.items() if mode not in ("0o700", "0o600")} == {}


def _check_processes(process: psutil.Process, token: str) -> None:
    listed = subprocess.run(["ps", "-ef"], capture_output=True, text=True, check=True).stdout
    secret = process.children()[0].environ()["METRICS_CLUSTER_TOKEN"]
    assert len(secret) == 64
    assert token not in listed
    assert secret not in listed


def test_up_for_everybody_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["up", "--host", "0.0.0.0", "--data-dir", str(tmp_path)])
    assert result.exit_code == 2
    assert "METRICS_ALLOW_ANYBODY" in result.stderr
    assert list(tmp_path.iterdir()) == []
