"""What collectors have to be told of values that will not arrive, or not soon, so that answers call them missing.

A number that was given out and is not there is a hole only when a higher one has arrived. So a sender says how far its
numbers reach, in a batch without values: after it has dropped some, before it sends a backlog, and before its process
ends with more than one batch to send. Should it be killed meanwhile, answers say what is missing.
"""

from __future__ import annotations

import threading

from metrics_app.client.batch import Batch
from metrics_app.client.buffer import Waiting
from metrics_app.client.contents import Numbered, ends_of, tidings_of

MOST = 20_000  # keys and hours; beyond it the first are forgotten


class Tidings:
    """How far numbers reach, as far as it has to be told."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._ends: dict[Numbered, int] = {}

    @property
    def owed(self) -> bool:
        """Whether there is something to tell."""
        return bool(self._ends)

    def note(self, waiting: Waiting) -> None:
        """The numbers of a batch have to be told; nothing, if it cannot be read any more."""
        try:
            batch = waiting.load()
        except OSError:
            return
        if batch is None:
            return
        ends = ends_of(batch)
        with self._guard:
            for what, end in ends.items():
                self._ends[what] = max(end, self._ends.pop(what, 0))
            for what in list(self._ends)[:-MOST]:
                del self._ends[what]

    def batches(self) -> list[Batch]:
        """What has to be told, as bodies of requests."""
        with self._guard:
            return tidings_of(self._ends)

    def told(self) -> None:
        """A collector has taken note of all of it."""
        with self._guard:
            self._ends.clear()
