"""Whether a worker that has taken partitions over answers questions about them yet."""

from __future__ import annotations

import time
from collections.abc import Callable

from metrics_app.aggregator.partitions import Partitions

PATIENCE_S = 10.0


class CaughtUp:
    """A check of readiness: what was accepted before is folded, so that a key without a row is known to have none.

    It does not wait for that for ever. With a long backlog a worker takes samples meanwhile, and says of such keys that
    it cannot tell yet.
    """

    def __init__(self, partitions: Partitions, clock: Callable[[], float] = time.monotonic) -> None:
        self._partitions = partitions
        self._clock = clock
        self._since: float | None = None

    def problem(self) -> str | None:
        """What is still to be folded; None when nothing is, or when it takes long."""
        if not (behind := self._partitions.unproven):
            self._since = None
            return None
        now = self._clock()
        self._since = now if self._since is None else self._since
        if now - self._since > PATIENCE_S:
            return None
        return f"folding what was accepted before, of partitions {', '.join(map(str, sorted(behind)))}"
