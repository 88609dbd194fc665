"""Runs targets under atheris, each for FUZZ_S seconds, from valid inputs and the corpus: `python -m tests.fuzz [NAME]`.

Called by `make fuzz`. Exit code 1 when a target failed, was too slow for an input or took too much memory; the input is
then in the folder `found`, which is not kept. When the bug is fixed, the input becomes a line of `corpus/NAME.hex`, in
hexadecimal, and every run of the tests reads it. `--keep` adds to those files a few short inputs of this run that ran
code no other has run.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz import seeds
from tests.fuzz.targets import TARGETS

FOUND = Path(__file__).with_name("found")
SLOW_S = 10  # an input that takes longer is a finding
MEMORY_MB = 2048
LONGEST = 4096  # bytes of an input
KEPT, KEPT_BYTES = 20, 400  # of a target: inputs added at most, and the longest of them


def main() -> int:
    """Runs them one after the other; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(TARGETS))
    parser.add_argument("--keep", action="store_true")
    asked = parser.parse_args()
    if unknown := set(asked.names) - set(TARGETS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    failed = [
        name for name in asked.names or TARGETS if not fuzz(name, int(os.environ.get("FUZZ_S", "60")), asked.keep)
    ]
    print(f"failed: {', '.join(failed)}; the inputs are in {FOUND}" if failed else "nothing found")
    return 1 if failed else 0


def fuzz(name: str, seconds: int, keep: bool) -> bool:
    """Whether a target stood it for so long."""
    FOUND.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as corpus:
        known = [*seeds.VALID[name], *seeds.corpus(name)]
        for data in known:
            (Path(corpus) / hashlib.sha1(data).hexdigest()).write_bytes(data)
        options = {
            "max_total_time": seconds,
            "artifact_prefix": f"{FOUND}/{name}-",
            "timeout": SLOW_S,
            "rss_limit_mb": MEMORY_MB,
            "max_len": LONGEST,
            "print_final_stats": 1,
        }
        command = [sys.executable, "-m", "tests.fuzz.coverage_guided", name, corpus]
        ran = subprocess.run(
            [*command, *(f"-{option}={value}" for option, value in options.items())], capture_output=True, text=True
        )
        inputs = sorted((path.read_bytes() for path in Path(corpus).iterdir()), key=len)
    runs = [line.split()[-1] for line in ran.stderr.splitlines() if "number_of_executed_units" in line]
    print(f"{name}: {runs[0] if runs else '?'} inputs in {seconds} s, {len(inputs) - len(known)} of them ran new code")
    if ran.returncode:
        print(ran.stdout[-4000:] + ran.stderr[-4000:])
    elif keep:
        _keep(name, [data for data in inputs if data not in known and len(data) <= KEPT_BYTES])
    return not ran.returncode


def _keep(name: str, new: list[bytes]) -> None:
    lines = [data.hex() for data in [*seeds.corpus(name), *new[:: max(1, len(new) // KEPT)][:KEPT]]]
    (seeds.CORPUS / f"{name}.hex").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
