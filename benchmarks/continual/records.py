"""What was measured, by job, in a file with one line per record: a run that was stopped goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from benchmarks.continual.job import Job, versions
from benchmarks.tables import FOLDER
from engine.evaluate.processes import THREADS

FILE = FOLDER / "continual_runs.json"
_OF_A_JOB = [field.name for field in fields(Job)]


class Records:
    """Figures by job; `add` writes them at once."""

    def __init__(self, path: Path = FILE) -> None:
        self.path = path
        self._found: dict[Job, dict[str, Any]] = {}
        self._lock = threading.Lock()
        if path.exists():
            for record in json.loads(path.read_text(encoding="utf-8")):
                self._found[_job(record)] = record

    def get(self, job: Job) -> dict[str, Any] | None:
        """The job's record, whatever it was measured with."""
        return self._found.get(job)

    def current(self, job: Job) -> bool:
        """Whether the job was measured by the code that is here."""
        record = self._found.get(job)
        return record is not None and record["versions"] == versions(job.own, job.set)

    def add(self, record: dict[str, Any]) -> None:
        """Keep a record in the place of an older one."""
        with self._lock:
            self._found[_job(record)] = record
            order = sorted(self._found.values(), key=lambda r: [str(r[name]) for name in _OF_A_JOB])
            lines = ",\n".join(json.dumps(line) for line in order)
            beside = self.path.with_name(self.path.name + ".part")
            beside.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
            os.replace(beside, self.path)


def _job(record: dict[str, Any]) -> Job:
    return Job(**{name: record[name] for name in _OF_A_JOB})


def measure(jobs: Sequence[Job], kept: Records, at_once: int = 1) -> list[str]:
    """Run the jobs that `kept` has no current record of; what went wrong, one sentence per job.

    Each is a process with one thread; at_once of them run side by side.
    """
    todo = [job for job in dict.fromkeys(jobs) if not kept.current(job)]
    if todo:
        print(f"  {len(todo)} of {len(set(jobs))} runs to make", flush=True)
    failed: list[str] = []

    def one(job: Job) -> None:
        ended = subprocess.run(
            [sys.executable, "-m", "benchmarks.continual", json.dumps(asdict(job))],
            env={**os.environ, **dict.fromkeys((*THREADS, "NUMBA_NUM_THREADS"), "1")},
            cwd=Path(__file__).parent.parent.parent,
            capture_output=True,
            text=True,
            check=False,
        )
        if ended.returncode:
            said = (ended.stderr.strip().splitlines() or ["no word"])[-1]
            failed.append(f"{job.method} ({job.input}) failed on {job.set}, seed {job.seed}: {said}")
            print(f"  {failed[-1]}", flush=True)
            return
        record = json.loads(ended.stdout.strip().splitlines()[-1])
        kept.add(record)
        what = "choosing" if job.tuning else f"seed {job.seed}"
        print(
            f"  {job.set}  {job.kept / 1e6:g} MB  {job.method} ({job.input}), {what}, rate {job.rate:g} x "
            f"{job.repeats}"
            f"  accuracy {record['final_accuracy']:.4f}  {record['us_per_event']:.0f} µs  "
            f"{record['cpu_seconds']:.0f} s",
            flush=True,
        )

    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(one, todo))
    return failed
