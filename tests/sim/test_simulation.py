"""Counted once, whatever happens in whatever order: stories told to the real fold, agent, flusher and store.

Faked are Kafka (the two logs, the group, the producers' way to the broker), the delivery by Faust, and the clock. At
the end of each story, and in its middle where it says so, everything heals and every copy must equal a model made of
dicts: the owner, the standbys as they are, and a worker rebuilt from the changelog alone. On the way no row of a disk
may go back, and no offset be committed before what is below it is durable.

"Compactions held back" counts how often the log cleaner would have taken the newest state of a row: a stale write of a
worker presumed dead was the last one, and no owner had got to write over it since (test_stories.py).
"""

from __future__ import annotations

from collections import Counter
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Verbosity, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.sim.machine import Machine

QUICK = settings(
    max_examples=70, stateful_step_count=40, derandomize=True, deadline=None, database=None,
    suppress_health_check=list(HealthCheck), verbosity=Verbosity.normal,
)  # fmt: skip
STEPS_A_NIGHT = 10_000


def test_every_story_ends_with_every_value_counted_once(capsys):
    class Quick(Machine):
        happened: ClassVar[Counter[str]] = Counter()

    run_state_machine_as_test(Quick, settings=QUICK)
    with capsys.disabled():
        print(f"\nsimulation: {dict(Quick.happened)}")
    assert Quick.happened["steps"] >= 2000


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_thousand_steps_of_stories_never_told_before_end_well(capsys):
    class Nightly(Machine):
        happened: ClassVar[Counter[str]] = Counter()

    nightly = settings(QUICK, derandomize=False, stateful_step_count=60, max_examples=200, print_blob=True)
    while Nightly.happened["steps"] < STEPS_A_NIGHT:
        run_state_machine_as_test(Nightly, settings=nightly)
    with capsys.disabled():
        print(f"\nsimulation: {dict(Nightly.happened)}")
