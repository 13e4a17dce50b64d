"""What every run of the demo loads, loaded once in a server process from which the runs are forked."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

from engine.cli import main
from engine.crashpoints import VARIABLE, arm
from engine.learner import warmup
from streams.flights import flights_table

torch.set_num_threads(1)  # no thread may be there when a run is forked
warmup()
flights_table((1, 2))


def run(arguments: list[str], crash: str, out: Path, err: Path) -> None:
    """The command line with these arguments, its output and errors into files."""
    for path, number in ((out, 1), (err, 2)):
        with open(path, "wb") as file:
            os.dup2(file.fileno(), number)
    os.environ[VARIABLE] = crash  # for the processes that it starts
    arm(crash)
    sys.argv = ["everlearn", *arguments]
    main()
