"""The products that `make mutants` breaks can still be broken so: what they change is still there, under its name."""

from __future__ import annotations

import subprocess
import sys


def test_each_mutant_still_finds_what_it_changes() -> None:
    install = "from tests.faults.mutants import MUTANTS\nfor mutant in MUTANTS.values(): mutant()"
    subprocess.run([sys.executable, "-c", install], check=True, timeout=120)
