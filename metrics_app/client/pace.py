"""How fast a backlog is sent after an outage: all clients come back at once, and the service must survive it."""

from __future__ import annotations

LEAST = 1_000.0  # values per second, however few come in
MEMORY_S = 10.0  # over which the rate of what comes in is averaged


class Pace:
    """Sends a backlog at most `factor` times as fast as values come in.

    Nothing is held back as long as nothing has failed; a backlog of one batch or none ends it.
    """

    def __init__(self, factor: float) -> None:
        self._factor = factor
        self._rate = 0.0
        self._since: float | None = None
        self._catching_up = False
        self._next = 0.0

    def came_in(self, count: int, now: float) -> None:
        """So many values were recorded since the last call."""
        if self._since is None:
            self._since = now
            return
        elapsed = now - self._since
        if elapsed > 0:
            weight = min(1.0, elapsed / MEMORY_S)
            self._rate += (count / elapsed - self._rate) * weight
            self._since = now

    def failed(self) -> None:
        """Something could not be sent; a backlog begins."""
        self._catching_up = True

    def sent(self, count: int, now: float, behind: bool) -> None:
        """So many values were sent; `behind`: there is a backlog still."""
        self._catching_up = self._catching_up and behind
        self._next = now + count / max(LEAST, self._factor * self._rate)

    def wait_s(self, now: float) -> float:
        """Seconds until the next batch may go."""
        return max(0.0, self._next - now) if self._catching_up else 0.0
