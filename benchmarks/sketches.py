"""Our summary beside the quantile sketches one would otherwise take, on heavy-tailed response times, in one run.

Bulk is 1,000 values a call where the library takes an array, a loop over its method where it takes one value only;
single is one value a call, into a row that is past its exact phase. Errors are relative to the exact quantile (linear
interpolation), the worst of all data sets, of the whole and of PARTS merged sketches.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import datasketches
import numpy as np
from ddsketch import DDSketch

from benchmarks.bench import Bench
from metrics_app.stats import codec
from metrics_app.stats.histogram import Values
from metrics_app.stats.summary import HourlySummary

QUANTILES = (0.5, 0.99, 0.999)
BATCH = 1000
PARTS = 16
SEED = 20261123


@dataclass(frozen=True)
class Kind:
    """How to use one sketch: make it, add an array, add a value, merge, ask, and its size in bytes."""

    name: str
    make: Callable[[], Any]
    bulk: Callable[[Any, Values], Any]
    single: Callable[[Any, float], Any]
    quantile: Callable[[Any, float], float]
    size: Callable[[Any], int]


@dataclass(frozen=True)
class Result:
    """Speeds in ns a value, encoded bytes, the worst relative error at each of QUANTILES, and whether order matters."""

    name: str
    bulk_ns: float
    single_ns: float
    encoded_bytes: int
    errors: tuple[float, ...]
    batching_changes_answer: bool


def _each(sketch: DDSketch, values: Values) -> None:
    for value in values.tolist():
        sketch.add(value)


def _ddsketch_bytes(sketch: Any) -> int:
    # its protobuf message is a double for each bin between the lowest and the highest one; protobuf is not installed
    return 8 * len(sketch._store.bins) + 8 * len(sketch._negative_store.bins)


def _datasketch(name: str, make: Callable[[], Any], dtype: type) -> Kind:
    return Kind(
        name,
        make,
        bulk=lambda sketch, values: sketch.update(values.astype(dtype, copy=False)),
        single=lambda sketch, value: sketch.update(value),
        quantile=lambda sketch, q: sketch.get_quantile(q),
        size=lambda sketch: len(sketch.serialize()),
    )


KINDS = (
    Kind(
        "ours (scale 6)",
        make=HourlySummary,
        bulk=lambda sketch, values: sketch.add(values),
        single=lambda sketch, value: sketch.add(np.array([value])),
        quantile=lambda sketch, q: sketch.quantile(q).value,
        size=lambda sketch: len(codec.encode(sketch)),
    ),
    Kind(
        "ddsketch 0.54 %",
        make=lambda: DDSketch(0.00541516),
        bulk=_each,
        single=lambda sketch, value: sketch.add(value),
        quantile=lambda sketch, q: sketch.get_quantile_value(q),
        size=_ddsketch_bytes,
    ),
    Kind(
        "ddsketch 1 %",
        make=lambda: DDSketch(0.01),
        bulk=_each,
        single=lambda sketch, value: sketch.add(value),
        quantile=lambda sketch, q: sketch.get_quantile_value(q),
        size=_ddsketch_bytes,
    ),
    _datasketch("KLL k=200", lambda: datasketches.kll_doubles_sketch(200), np.float64),
    _datasketch("KLL k=1000", lambda: datasketches.kll_doubles_sketch(1000), np.float64),
    _datasketch("t-digest k=200", lambda: datasketches.tdigest_double(200), np.float64),
    _datasketch("REQ k=12 (float32)", lambda: datasketches.req_floats_sketch(12, True), np.float32),
)


def heavy_tails(size: int) -> dict[str, Values]:
    """Response times in ms whose tails reach far, the same in every run."""
    rng = np.random.default_rng(SEED)
    return {
        "lognormal": rng.lognormal(3.0, 1.2, size),
        "pareto": 5.0 * (1.0 + rng.pareto(1.1, size)),
        "bimodal": np.where(rng.random(size) < 0.98, rng.lognormal(2.0, 0.4, size), rng.lognormal(8.0, 0.6, size)),
    }


def measure(kind: Kind, data: dict[str, Values], repeats: int) -> Result:
    """One row of the table."""
    values = data["lognormal"]
    whole = _filled(kind, [values])
    errors = np.zeros(len(QUANTILES))
    batching = False
    for each in data.values():
        answers = [_answers(kind, sketch) for sketch in (_filled(kind, [each]), _merged(kind, each))]
        batching |= answers[0] != answers[1]
        exact = np.quantile(each, QUANTILES)
        errors = np.maximum(errors, np.max(np.abs(np.array(answers) - exact) / exact, axis=0))
    return Result(
        kind.name,
        _ns(lambda: _filled(kind, np.split(values, len(values) // BATCH)), len(values), repeats),
        _ns(lambda: _singles(kind, whole, values[:BATCH].tolist()), BATCH, repeats),
        kind.size(_filled(kind, [values])),
        tuple(errors.tolist()),
        batching,
    )


def _filled(kind: Kind, parts: list[Values]) -> Any:
    sketch = kind.make()
    for part in parts:
        kind.bulk(sketch, part)
    return sketch


def _merged(kind: Kind, values: Values) -> Any:
    merged = kind.make()
    for part in np.split(values, PARTS):
        merged.merge(_filled(kind, [part]))
    return merged


def _singles(kind: Kind, sketch: Any, values: list[float]) -> None:
    for value in values:
        kind.single(sketch, value)


def _answers(kind: Kind, sketch: Any) -> list[float]:
    return [kind.quantile(sketch, q) for q in QUANTILES]


def _ns(run: Callable[[], object], count: int, repeats: int) -> float:
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - started)
    return best / count * 1e9


def run(bench: Bench) -> dict[str, Any]:
    """The section `sketches`: how many values a data set has, and a row a sketch."""
    size, repeats = (16_000, 1) if bench.quick else (480_000, 5)
    bench.expect(len(KINDS))
    data = heavy_tails(size)
    rows = []
    for kind in KINDS:
        bench.step(f"sketches: {kind.name}")
        rows.append(asdict(measure(kind, data, repeats)))
    return {"sketches": {"values": size, "repeats": repeats, "rows": rows}}
