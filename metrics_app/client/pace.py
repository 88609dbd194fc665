"""How fast a backlog is sent after an outage: all clients come back at once, and the service must survive it."""

from __future__ import annotations

LEAST = 10.0  # values per second, however few came in
MEMORY_S = 10.0  # over which the rate of what comes in is averaged
RECOVERED_S = 60.0  # a backlog from the spool is taken to have come in within this time


class Pace:
    """Sends a backlog at most `factor` times as fast as values come in now, or came in while it grew.

    Nothing is held back as long as nothing has failed; when nothing is left, it is over.
    """

    def __init__(self, factor: float) -> None:
        self._factor = factor
        self._rate = 0.0
        self._last = 0.0
        self._since: float | None = None  # when the backlog began
        self._backlog = 0
        self._next = 0.0

    def came_in(self, count: int, now: float) -> None:
        """So many values were recorded since the last call."""
        elapsed = now - self._last
        if self._last and elapsed > 0:
            self._rate += (count / elapsed - self._rate) * min(1.0, elapsed / MEMORY_S)
        self._last = now
        self._backlog += count

    def failed(self, now: float) -> None:
        """Something could not be sent; a backlog begins."""
        if self._since is None:
            self._since, self._backlog = now, 0

    def recovered(self, count: int, now: float) -> None:
        """So many values were found in the spool."""
        self._since, self._backlog = now - RECOVERED_S, self._backlog + count

    def sent(self, count: int, now: float, behind: bool) -> None:
        """So many values were sent; `behind`: there is a backlog still."""
        if self._since is None:
            return
        while_it_grew = self._backlog / max(1.0, now - self._since)
        self._next = now + count / (self._factor * max(LEAST, self._rate, while_it_grew))
        if not behind:
            self._since = None

    def wait_s(self, now: float) -> float:
        """Seconds until the next batch may go."""
        return 0.0 if self._since is None else max(0.0, self._next - now)
