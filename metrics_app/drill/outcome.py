"""What came of a drill."""

from __future__ import annotations

from dataclasses import dataclass

from metrics_app.drill.probe import Availability
from metrics_app.load.run import Run

WHOLE_S = 90.0  # longest wait until an installation is itself again


@dataclass(frozen=True)
class Kill:
    """One kill and what followed, in seconds after it; None: not within `WHOLE_S`.

    Attributes:
        at: moment of the monotonic clock.
        ready_s: until a new process ran, samples were accepted and every worker said that it was ready.
        whole_s: until everything accepted by then was in the answers.
    """

    name: str
    pid: int
    at: float
    ready_s: float | None = None
    whole_s: float | None = None

    @property
    def end(self) -> float:
        """Moment at which the installation was itself again, or was no longer waited for."""
        return self.at + (WHOLE_S if self.whole_s is None else self.whole_s)

    def __str__(self) -> str:
        if self.ready_s is None:
            return f"not ready again in {WHOLE_S:g} s"
        ready = f"ready again after {self.ready_s:.1f} s"
        if self.whole_s is None:
            return f"{ready}, but not all that was accepted is counted in {WHOLE_S:g} s"
        return f"{ready}, all accepted counted after {self.whole_s:.1f} s"


@dataclass(frozen=True)
class Drilled:
    """The result.

    Attributes:
        kills: with each the questions asked until the installation was itself again.
        complaints: a sentence for each answer that contradicted an earlier one, and for a drill that could not begin.
    """

    run: Run
    kills: tuple[tuple[Kill, Availability], ...]
    asked: Availability
    complaints: tuple[str, ...]

    @property
    def wrong(self) -> list[str]:
        """A sentence for everything that is not as it must be, but for values lost or double."""
        failed = [f"{kill.name} killed: {kill}" for kill, _ in self.kills if kill.whole_s is None]
        return [*self.run.verdict.wrong, *self.complaints, *failed]

    @property
    def is_right(self) -> bool:
        """All that was sent is counted, once, nothing is wrong, and every sample could be queried."""
        verdict = self.run.verdict
        return self.run.is_right and verdict.sent == verdict.counted and not self.wrong

    @property
    def last_line(self) -> str:
        """The result in one line."""
        of = self.run.verdict
        return f"sent {of.sent} counted {of.counted} lost {of.lost} double {of.double}"
