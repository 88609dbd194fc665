"""`python -m tests.faults.run_mutants`: the tests on the product broken in each known way; 1 if one stays green."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from typing import NamedTuple

from tests.faults.installation import MUTANT, SEED

SEEDS = (1, 2, 3)


class Proof(NamedTuple):
    """The test that must turn red, and what it must say: red for another reason proves nothing."""

    test: str
    says: str


PROOFS = {
    "reply-before-ack": Proof("test_broker.py::test_while_kafka_is_down*1-12", "202 without a broker"),
    "no-dedupe": Proof("test_collectors.py::test_a_request_repeated", r"assert ([2-9]|\d\d) == 1"),
    "place-before-rows": Proof("test_crash_points.py::test_a_crash_between*short", r"lost [1-9]"),
    "stamp-apart": Proof("test_crash_points.py::test_a_crash_between*short", r"double [1-9]"),
}


def main() -> int:
    """Number of mutants that survive, at most 1."""
    started = time.monotonic()
    survivors = [name for name, proof in PROOFS.items() if not _is_found(name, proof)]
    print(f"{len(PROOFS) - len(survivors)} of {len(PROOFS)} mutants found in {time.monotonic() - started:.0f} s")
    return bool(survivors)


def _is_found(name: str, proof: Proof) -> bool:
    for seed in SEEDS:
        started = time.monotonic()
        said = _run(name, proof, seed)
        if said is not None:
            print(f"{name}: found with seed {seed} in {time.monotonic() - started:.0f} s: {said}", flush=True)
            return True
    print(f"{name}: SURVIVES {len(SEEDS)} seeds", flush=True)
    return False


def _run(name: str, proof: Proof, seed: int) -> str | None:
    file, _, test = proof.test.partition("::")
    words = " and ".join(test.split("*"))
    command = [sys.executable, "-m", "pytest", f"tests/faults/{file}", "-k", words, "-s", "-p", "no:cacheprovider"]
    environment = {**os.environ, MUTANT: name, SEED: str(seed)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    found = re.search(proof.says, done.stdout)
    if done.returncode == 1 and found is not None:
        return found[0]
    print(f"{name}: seed {seed}: exit code {done.returncode}, {done.stdout.splitlines()[-1:]}", flush=True)
    return None


if __name__ == "__main__":
    sys.exit(main())
