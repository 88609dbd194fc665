"""What `make audit` says and its exit code, by a pip-audit that is a script of ours."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

AUDIT = Path(__file__).parent.parent / "requirements" / "audit.py"
FINE: dict[str, Any] = {"name": "fine", "version": "1", "vulns": []}
UNKNOWN = {"name": "unknown", "skip_reason": "not found"}
BAD = {"name": "bad", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}]}


def audited(folder: Path, stdout: str = "", stderr: str = "") -> tuple[int, str]:
    """(exit code, output) with a pip-audit that says this."""
    fake = folder / "pip-audit"
    fake.write_text(
        f"#!{sys.executable}\nimport sys\nprint({stdout!r}); print({stderr!r}, file=sys.stderr); sys.exit(1)\n"
    )
    fake.chmod(0o755)
    ran = subprocess.run([sys.executable, AUDIT, fake, "server.txt"], capture_output=True, text=True)
    return ran.returncode, ran.stdout + ran.stderr


@pytest.mark.parametrize(
    ("packages", "code", "said"),
    [
        ([FINE], 0, "1 packages audited, 0 of them vulnerable"),
        ([FINE, UNKNOWN], 0, "not audited: unknown"),
        ([FINE, BAD], 1, "bad 2: CVE-1, fixed in 3"),
        ([UNKNOWN], 0, "NOT AUDITED: not found"),
    ],
)
def test_a_vulnerability_is_a_failure_and_a_package_nobody_knows_is_named(
    tmp_path: Path, packages: list[dict[str, Any]], code: int, said: str
) -> None:
    found, output = audited(tmp_path, json.dumps({"dependencies": packages}))
    assert (found, said in output) == (code, True), output


def test_offline_is_said_and_is_no_failure(tmp_path: Path) -> None:
    assert audited(tmp_path, stderr="requests.exceptions.ConnectionError: no route")[0] == 0
    ran = subprocess.run([sys.executable, AUDIT, tmp_path / "none", "server.txt"], capture_output=True, text=True)
    assert (ran.returncode, "NOT AUDITED" in ran.stdout) == (0, True)


def test_an_audit_that_fails_for_another_reason_is_a_failure(tmp_path: Path) -> None:
    assert audited(tmp_path, stderr="cannot read server.txt") == (2, "cannot read server.txt\n\n")
