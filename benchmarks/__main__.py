"""`python -m benchmarks [NAME ...] [--write]`: benchmarks by name; without one all but the tables."""

from __future__ import annotations

import argparse
import importlib
import inspect
import signal
import sys
from typing import Any

from streams.datasets import names as streams

NAMES = (
    "startup",
    "elec2",
    "flights",
    "depth",
    "crashes",
    "crashes_kafka",
    "decode",
    "fuzz",
    "soak",
    "anomaly",
    "throughput",
    "latency",
    "growth",
    "recurring",
    "lookback",
)
TABLES = (  # many learners on many streams: by name alone
    "first",
    "regression",
    "ablations",
    "experts",
    "calibration",
    "history",
    "backprop",
    "full",
    "flights_year",
    "continual",
)


def main() -> None:
    """Run what was asked for; each benchmark is a module of this package with `run() -> Findings`."""
    known = (*NAMES, *TABLES)
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(known)}")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks/NAME.md and .json")
    parser.add_argument("--stream", metavar="NAME", help="measure this stream alone")
    parser.add_argument("--ours", action="store_const", const=True, help="measure the engine, no peers")
    parser.add_argument("--at-once", type=int, metavar="N", help="processes side by side")
    parser.add_argument("--set", metavar="NAME", help="of continual: images, flat or permuted alone")
    parser.add_argument("--seeds", type=int, metavar="N", help="of continual: runs per method and budget")
    parser.add_argument("--methods", metavar="A,B", help="of continual: measure these alone")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in known]
    if unknown:
        parser.error(f"no such benchmark: {', '.join(unknown)}; known are {', '.join(known)}")
    if arguments.stream is not None and arguments.stream not in streams():
        parser.error(f"no such stream: {arguments.stream}; known are {', '.join(streams())}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends what a benchmark has started
    asked = {
        name: getattr(arguments, name) for name in ("stream", "ours", "at_once", "set", "seeds", "methods")
    }
    options: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    for name in arguments.names or NAMES:
        print(name, flush=True)
        run = importlib.import_module(f"benchmarks.{name}").run
        strange = sorted(set(options) - set(inspect.signature(run).parameters))
        if strange:
            parser.error(f"{name} has no option --{strange[0].replace('_', '-')}")
        findings = run(**options)
        if arguments.write and findings.rows:  # what did not run leaves the figures as they are
            print(f"  written: {findings.write().name}")
        else:
            print(findings.markdown())


if __name__ == "__main__":
    main()
