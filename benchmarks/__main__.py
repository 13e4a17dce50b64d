"""`python -m benchmarks [NAME ...] [--write]`: run benchmarks by name, all of them without one."""

from __future__ import annotations

import argparse
import importlib

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
)


def main() -> None:
    """Run what was asked for; each benchmark is a module of this package with `run() -> Findings`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all without one")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks/NAME.md and .json")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in NAMES]
    if unknown:
        parser.error(f"no such benchmark: {', '.join(unknown)}; known are {', '.join(NAMES)}")
    for name in arguments.names or NAMES:
        print(name, flush=True)
        findings = importlib.import_module(f"benchmarks.{name}").run()
        if arguments.write and findings.rows:  # what did not run leaves the figures as they are
            print(f"  written: {findings.write().name}")
        else:
            print(findings.markdown())


if __name__ == "__main__":
    main()
