"""The one command behind every figure of the documentation."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import pages, results
from benchmarks.bench import Bench
from metrics_app.errors import BrokerError

# what is measured, in this order, and the module whose `run(bench)` gives sections of the results document
BENCHMARKS = {
    "ladder": "the brief's baseline times 1 to 1,000: what is held, and what a value costs",
    "ingest": "the way in by the form of the body",
    "single_post": "one sample a request, beside a bare aiohttp server",
    "one_message": "the brief's baseline to the letter: ten apps, 10,000 requests a second of one message",
    "statsd": "packets a second by the socket of METRICS_STATSD",
    "logs": "lines of logs a second, by format, and a whole import",
    "end_to_end": "from POST to answer: the highest rate held, and freshness at half of it",
    "queries": "how fast questions are answered while samples come in",
    "many_keys": "up to a million keys: row updates, memory, disk, exactness; recovery",
    "sketches": "our quantiles beside DDSketch, KLL, t-digest and REQ",
    "client": "record(): what a call costs, and how many a process can do",
    "middleware": "response times of apps with the client's middleware, and collectors up, down and silent",
    "peers": "the fold beside Faust as it is usually used, Quix Streams and Kafka Streams (make bench-peers)",
}
APART = {"peers"}  # needs .venv-peers, and runs only when named
MODULES = {"peers": "benchmarks.peers.compare"}
EXAMPLES = """examples:
  python -m benchmarks                      all of ours, about ten minutes
  python -m benchmarks --quick              the same in under a minute, for a look: writes results-quick.json
  python -m benchmarks peers --quick        ours and the peers
  python -m benchmarks --pages              write the tables and plots of the docs anew from results.json
"""


def main() -> int:
    """Runs what is named, writes the results, and then the tables and plots of the documentation.

    Exit code 0; 1 when something was counted wrong or not in time, and so gave no figures.
    """
    options = _options()
    console = Console(width=150)
    if not options.pages:
        path = options.json or (results.QUICK_RESULTS if options.quick else results.RESULTS)
        try:
            with Bench(options.quick) as bench:
                for name in options.names or [name for name in BENCHMARKS if name not in APART]:
                    found = run(bench, name)
                    results.update(path, found, bench.busy)
                    pages.show(console, results.load(path), found)
        except (RuntimeError, TimeoutError, BrokerError) as error:
            Console(stderr=True).print(f"no figures: {error}", style="red", highlight=False, markup=False)
            return 1
        console.print(f"written to {path}")
    if options.pages or not (options.quick or options.json):
        for page in pages.write(results.load()):
            console.print(f"written to {page}")
    return 0


def run(bench: Bench, name: str) -> dict[str, Any]:
    """The sections of one benchmark."""
    module = importlib.import_module(MODULES.get(name, f"benchmarks.{name}"))
    found: dict[str, Any] = module.run(bench)
    return found


def _options() -> argparse.Namespace:
    named = "\n".join(f"  {name:12} {what}" for name, what in BENCHMARKS.items())
    parser = argparse.ArgumentParser(
        "python -m benchmarks",
        description=f"{__doc__}\n\nWhat is measured:\n{named}",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to measure; none: all of ours")
    parser.add_argument("--quick", action="store_true", help="for a fraction of the time; the docs stay as they are")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there; the docs stay as they are")
    parser.add_argument(
        "--pages", action="store_true", help="measure nothing, write the docs from the results there are"
    )
    options = parser.parse_args()
    if unknown := set(options.names) - set(BENCHMARKS):
        parser.error(f"nothing is called {', '.join(sorted(unknown))}; there are: {', '.join(BENCHMARKS)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
