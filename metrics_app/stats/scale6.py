"""The bounds of the buckets of a base-2 exponential histogram of scale 6, in plain Python: senders have no numpy.

Called by `codec`, `histogram`, `client.gathering`, `query.exported` and `wire.columnar_body`.

Bucket i holds the values in (2**(i/64), 2**((i+1)/64)], for i from -20*64 up to 44*64.
"""

from __future__ import annotations

import math

SCALE = 6
PER_OCTAVE = 1 << SCALE
FIRST_OCTAVE = -20
LAST_OCTAVE = 43
FIRST_BUCKET = FIRST_OCTAVE * PER_OCTAVE
END_BUCKET = (LAST_OCTAVE + 1) * PER_OCTAVE
ZERO_MAX = 2.0**FIRST_OCTAVE  # OTLP's zero_threshold
ERROR_BOUND = 0.005416  # (base - 1) / (base + 1) = 0.00541516, rounded up so that the last bit of an estimate fits in


def _octave() -> list[float]:
    """Lower bounds of the buckets from 1 to 2: greatest float64 not above 2**(j/64), which separates just as well."""
    bounds = []
    for j in range(PER_OCTAVE):
        mantissa = 1 << (j + 52 * PER_OCTAVE)
        for _ in range(SCALE):  # nested integer square roots are the integer 64th root
            mantissa = math.isqrt(mantissa)
        bounds.append(math.ldexp(mantissa, -52))
    return bounds


OCTAVE = _octave()


def bound(bucket: int) -> float:
    """Lower (exclusive) bound of a bucket, which is the upper (inclusive) one of the bucket below."""
    return math.ldexp(OCTAVE[bucket % PER_OCTAVE], bucket // PER_OCTAVE)
