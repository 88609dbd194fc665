"""How many collectors, aggregators, brokers, bytes and dollars a load takes: a model of measured costs.

    python -m benchmarks.scale_model --machines 1000 --per-machine 1000
    python -m benchmarks.scale_model --machines 10 --form one --core-hour 0.06

Its costs come from `results.json`: what our processes and Kafka take is a sum of what they always take, and a cost for
each request and value, none negative, that explains the steps of `ladder` and `one_message` best. It is checked against
`end_to_end`, which it does not see but for how cores divide between collector and aggregator.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import results
from benchmarks.scale_plan import Assumptions, Fleet, fleet
from metrics_app.verify.plan import Form

ONE = "one"  # the form of one message a request
VALUE_BYTES = 8  # of a value in a record; a message a request adds a chunk, which a gathering shares
# least values of a key in an hour -> the place in `many_keys` of rows that are as full
ROWS_BY_VALUES = ((1000, 0), (10, 1), (0, 2))
PARTS = ("ours", "kafka")
ENOUGH = 0.25  # how far from an unseen measurement the model may be, as a share of it

Document = dict[str, Any]
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Load:
    """Values a second in requests of `batch` values, spread over so many keys.

    Attributes:
        form: of the body; `pairs` stands for all JSON, `msgpack` for columns, `one` for one message a request.
    """

    values_per_s: float
    batch: int
    keys: int
    form: str

    def rates(self) -> list[float]:
        """What costs are charged by: 1, requests a second, values a second."""
        return [1.0, self.values_per_s / self.batch, self.values_per_s]

    def changed_rows(self) -> float:
        """Keys that get a value in a second, on average: so many rows a flush writes."""
        if self.keys == 1:
            return min(1.0, self.values_per_s)
        return -self.keys * math.expm1(self.values_per_s * math.log1p(-1 / self.keys))


@dataclass(frozen=True)
class Point:
    """What was measured: a load, and the cores that our processes together and Kafka took."""

    load: Load
    cores: dict[str, float]


def points(document: Document) -> list[Point]:
    """What the model is made of."""
    one = document["one_message"]
    ours = one["cores"]["collector"] + one["cores"]["aggregator"]
    measured = {"ours": ours, "kafka": one["cores"]["kafka"]}
    steps = [
        Point(
            Load(step["accepted_per_s"], step["batch"], 10, step["form"]),
            {"ours": step["cores"]["worker"], "kafka": step["cores"]["kafka"]},
        )
        for step in document["ladder"]
    ]
    return [*steps, Point(Load(one["accepted_per_s"], 1, 10, ONE), measured)]


def unseen(document: Document) -> list[Point]:
    """What the model is checked against."""
    return [_end_to_end(row) for row in document["end_to_end"]]


def _end_to_end(row: dict[str, Any]) -> Point:
    form = Form.MSGPACK if row["form"] == Form.MSGPACK else Form.PAIRS
    cores = {name: ns * row["held_per_s"] / 1e9 for name, ns in row["cpu_ns"].items()}
    ours = cores["collector"] + cores["aggregator"]
    return Point(Load(row["held_per_s"], row["batch"], 10, form), {"ours": ours, "kafka": cores["kafka"]})


def costs(document: Document, form: str) -> dict[str, list[float]]:
    """What each of `Load.rates` costs ours and Kafka, in core seconds; JSON and one message share their costs.

    Raises:
        ValueError: nothing was measured of that form.
    """
    if form not in (Form.PAIRS, Form.MSGPACK, ONE):
        raise ValueError(f"form: expected one of pairs, msgpack, one, got {form}")
    columns = form == Form.MSGPACK
    mine = [point for point in points(document) if (point.load.form == Form.MSGPACK) == columns]
    rates = np.array([point.load.rates() for point in mine])
    return {part: explained(rates, np.array([point.cores[part] for point in mine])) for part in PARTS}


def explained(rates: Numbers, measured: Numbers) -> list[float]:
    """Costs, none negative, with the least squares of relative errors; of equals, those of the fewest rates."""
    return min(_solutions(rates / measured[:, None]), key=lambda found: round(found[0], 12))[1]


def _solutions(relative: Numbers) -> Iterator[tuple[float, list[float]]]:
    for count in range(1, relative.shape[1] + 1):
        for chosen in map(list, combinations(range(relative.shape[1]), count)):
            found, _, rank, _ = np.linalg.lstsq(relative[:, chosen], np.ones(len(relative)), rcond=None)
            if rank == count and (found >= 0).all():
                each = np.zeros(relative.shape[1])
                each[chosen] = found
                yield float(((relative @ each - 1) ** 2).sum()), each.tolist()


def predicted(load: Load, document: Document) -> dict[str, float]:
    """Cores that a load over ten keys takes of ours, and of Kafka for one copy."""
    return {part: float(np.dot(load.rates(), each)) for part, each in costs(document, load.form).items()}


def is_near(measured: float, said: float) -> bool:
    """Whether the model is as near to a measurement as it has to be."""
    return abs(said - measured) <= ENOUGH * measured


def planned(document: Document, load: Load, assumed: Assumptions) -> Fleet:
    """The fleet that carries a load."""
    return fleet(taken(document, load), load.keys, assumed)


def taken(document: Document, load: Load) -> dict[str, float]:
    """Cores of each role, and bytes a second of the two topics, one copy of each."""
    cores, rows = predicted(load, document), load.changed_rows()
    share = collectors_share(document, load.form)
    dearest = document["many_keys"][-1]  # every value another row
    an_hour = load.values_per_s * 3600 / load.keys
    row = document["many_keys"][next(place for least, place in ROWS_BY_VALUES if an_hour >= least)]
    return {
        "collector": cores["ours"] * share + rows * dearest["collector_cpu_ns"] / 1e9,
        "aggregator": cores["ours"] * (1 - share) + rows * dearest["cpu_ns"] / 1e9,
        "kafka": cores["kafka"],
        "samples_bytes": load.values_per_s * VALUE_BYTES,
        "changelog_bytes": rows * row["row_bytes"],
        "row_bytes": row["row_bytes"],
    }


def collectors_share(document: Document, form: str) -> float:
    """Of the cores that collector and aggregator take together, as measured where they are processes of their own."""
    if form == ONE:
        used = document["one_message"]["cpu_us"]
    else:
        columns = form == Form.MSGPACK
        used = next(row["cpu_ns"] for row in document["end_to_end"] if (row["form"] == Form.MSGPACK) == columns)
    return float(used["collector"] / (used["collector"] + used["aggregator"]))


def main() -> None:
    """Prints the fleet for a load."""
    options = _options()
    assumed = Assumptions(**{each.name: getattr(options, each.name) for each in fields(Assumptions)})
    batch = 1 if options.form == ONE else options.batch
    load = Load(options.machines * options.per_machine, batch, options.keys, options.form)
    for name, figure in planned(results.load(), load, assumed).lines():
        print(f"{name:32} {figure}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.scale_model", description=__doc__.splitlines()[0])
    parser.add_argument("--machines", type=_some, default=10, help="machines that send (10)")
    parser.add_argument("--per-machine", type=_some, default=1_000, help="values a second of each (1000)")
    parser.add_argument("--keys", type=_some, default=10, help="keys that get values in an hour (10)")
    parser.add_argument("--batch", type=_some, default=1_000, help="values a request (1000)")
    parser.add_argument("--form", choices=("pairs", "msgpack", ONE), default="pairs", help="of the body (pairs)")
    for each in fields(Assumptions):
        parser.add_argument(
            f"--{each.name.replace('_', '-')}",
            type=float,
            default=each.default,
            help=f"{each.metadata['help']} ({each.default})",
        )
    return parser.parse_args()


def _some(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {text}")
    return number


if __name__ == "__main__":
    main()
