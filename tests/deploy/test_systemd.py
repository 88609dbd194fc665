"""The units are what systemd understands, and their settings are settings."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from metrics_app.process import EXIT_SETTINGS, EXIT_UNUSABLE
from tests.deploy.manifests import SYSTEMD, understood

UNITS = sorted(SYSTEMD.glob("*.service"))


def values(unit: Path, name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", unit.read_text(), re.MULTILINE)


def verified(unit: Path, text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """What systemd says to a unit with this text, its program being one that is there."""
    copy = folder / unit.name
    copy.write_text(text.replace("/opt/metrics/bin/metrics-app", sys.executable))
    return subprocess.run(["systemd-analyze", "verify", "--man=no", copy], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_understands_every_line(unit: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze: apt-get install systemd")
    done = verified(unit, unit.read_text(), tmp_path)
    assert (done.returncode, unit.name in done.stderr) == (0, False), done.stderr
    misspelt = verified(unit, unit.read_text().replace("ProtectHome", "ProtectHouse"), tmp_path)
    assert "ProtectHouse" in misspelt.stderr


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_the_program_its_settings_and_its_exit_codes_are_ours(unit: Path) -> None:
    settings = understood(dict(each.replace("%H", "a-host").split("=", 1) for each in values(unit, "Environment")))
    (command,), (codes,), (stop_s,) = (
        values(unit, n) for n in ("ExecStart", "RestartPreventExitStatus", "TimeoutStopSec")
    )
    assert command.split()[1] == unit.stem.removeprefix("metrics-")
    assert {int(code) for code in codes.split()} == {EXIT_SETTINGS, EXIT_UNUSABLE}
    assert int(stop_s) > settings.stop_delay_s + settings.stop_grace_s
    (kept,) = values(unit, "StateDirectory")
    assert str(settings.data_dir) == f"/var/lib/{kept}"
