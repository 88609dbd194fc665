"""How far this machine's clock is from the collectors', which decide what hour it is."""

from __future__ import annotations

from typing import NamedTuple

from metrics_app.client.transport import Heard

DATE_S = 1.0  # the header `Date` has whole seconds
MEMORY_S = 300.0  # what a collector said is of no weight when others were heard so long after it
HOUR_S = 3600


class _Witness(NamedTuple):
    ahead_s: float
    at: float


class Skew:
    """By how much this machine's clock is ahead, as the replies of collectors show.

    A reply bounds it: between the request and the reply the collector's clock stood within the second of its `Date`.
    The clock of this machine is believed as long as it is within the tolerance of that of any collector: one that
    goes wrong cannot lead others astray. When all contradict it, it is corrected by the least of what they say.

    Args:
        tolerance_s: a difference up to it is none.
    """

    def __init__(self, tolerance_s: float) -> None:
        self._tolerance_s = tolerance_s
        self._witnesses: dict[str, _Witness] = {}
        self.ahead_s = 0.0

    def heard(self, address: str, heard: Heard, now: float) -> bool:
        """Takes note of a reply; whether `ahead_s` is another one now.

        Args:
            now: moment of the monotonic clock.
        """
        least, most = heard.sent_s - heard.date_s - DATE_S, heard.received_s - heard.date_s
        if least > most:  # our clock was set back meanwhile
            return False
        known = self._witnesses.get(address, _Witness(0.0, now)).ahead_s
        self._witnesses[address] = _Witness(min(max(known, least), most), now)
        ahead_s = min((one.ahead_s for one in self._witnesses.values() if now - one.at <= MEMORY_S), key=abs)
        before, self.ahead_s = self.ahead_s, ahead_s if abs(ahead_s) > self._tolerance_s else 0.0
        return self.ahead_s != before

    def right_hour(self, hour: int, now_s: float) -> int:
        """The latest hour, up to the present one, in which values were recorded that have another in their label.

        Args:
            hour: the label, by the clock of this machine.
            now_s: epoch seconds by the same clock.
        """
        if not self.ahead_s:
            return hour
        latest_s = (hour + 1) * HOUR_S - 1 - self.ahead_s
        return int(min(latest_s, now_s - self.ahead_s) // HOUR_S)
