"""Many jobs, some at a time, each a process with one thread; what was measured is kept, so that a run goes on."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.job import Job, versions
from benchmarks.tables import FOLDER

LIMIT = 20 * 60
AT_ONCE = 2
JOB = ("stream", "learner", "rows", "seed", "history")
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


class Results:
    """Records by job, in a file with one line per record; `add` writes it at once.

    A record is a job's fields with `evaluated`, its figures, `cpu_seconds` and `versions`, or with `over`, the
    processor's seconds after which it was ended.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._records: dict[Job, dict[str, Any]] = {}
        self._lock = threading.Lock()
        if path.exists():
            for record in json.loads(path.read_text(encoding="utf-8")):
                self._records[Job(**{name: record[name] for name in JOB})] = record

    def get(self, job: Job) -> dict[str, Any] | None:
        """The job's record, whatever it was measured with."""
        return self._records.get(job)

    def seconds(self, job: Job) -> float:
        """The processor's seconds that it took, NaN where that is not known."""
        record = self._records.get(job, {})
        return float(record.get("cpu_seconds", record.get("over", math.nan)))

    def current(self, job: Job, limit: int = LIMIT) -> bool:
        """Whether the job's record need not be made again: by the versions that are here, or none can be made.

        What was ended after fewer seconds than `limit` is made again.
        """
        record, here = self._records.get(job), versions(job.learner)
        if record is None or record.get("over", limit) < limit:
            return False
        return here is None or record["versions"] == here

    def add(self, record: dict[str, Any]) -> None:
        """Keep a record in the place of an older one."""
        with self._lock:
            self._records[Job(**{name: record[name] for name in JOB})] = record
            order = sorted(self._records.values(), key=lambda r: [str(r[name]) for name in JOB])
            lines = ",\n".join(json.dumps(line) for line in order)
            beside = self.path.with_name(self.path.name + ".part")
            beside.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
            os.replace(beside, self.path)


def peers_kept(folder: Path = FOLDER) -> Results:
    """What is known of the peers."""
    return Results(folder / "peers.json")


def own_kept(folder: Path = FOLDER) -> Results:
    """What is known of the engine."""
    return Results(folder / "everlearn.json")


def measure(jobs: Iterable[Job], kept: Results, *, limit: int = LIMIT, at_once: int = AT_ONCE) -> list[str]:
    """Run the jobs that `kept` has no current record of; what went wrong, one sentence per job.

    limit: the processor's seconds after which a job is ended and noted as such. at_once: processes side by side.
    """
    wanted = [job for job in jobs if not kept.current(job, limit)]
    absent = sorted({job.learner for job in wanted if versions(job.learner) is None})
    todo = [job for job in wanted if job.learner not in absent]
    failed = [f"Not measured: {name}, whose environment is not here (`make capymoa`)." for name in absent]
    processes = _Processes()

    def one(job: Job) -> None:
        record = processes.run(job, limit)
        if "failed" in record:
            failed.append(f"{job.learner} failed on {job.stream}: {record['failed']}")
        else:
            kept.add(record)
        _show(record)

    with ThreadPoolExecutor(at_once) as pool:
        try:
            for _ in pool.map(one, todo):
                pass
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            processes.end()
            raise
    return failed


class _Processes:
    """The processes under way, so that all can be ended."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[str]] = set()

    def run(self, job: Job, limit: int) -> dict[str, Any]:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.job", json.dumps(asdict(job)), str(limit)],
            env={**os.environ, **dict.fromkeys(THREADS, "1")},
            cwd=Path(__file__).parent.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._running.add(process)
        said, error = process.communicate()
        self._running.discard(process)
        if process.returncode == -signal.SIGXCPU:
            return {**asdict(job), "over": limit, "versions": versions(job.learner)}
        if process.returncode:
            return {**asdict(job), "failed": (error.strip().splitlines() or ["no word"])[-1]}
        record: dict[str, Any] = json.loads(said.strip().splitlines()[-1])
        return record

    def end(self) -> None:
        for process in list(self._running):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _show(record: dict[str, Any]) -> None:
    named = {"accuracy": 4, "log_loss": 4, "mae": 4, "cpu_seconds": 1}
    figures = [f"{name} {record[name]:.{digits}f}" for name, digits in named.items() if name in record]
    if "over" in record:
        figures = [f"ended after {record['over']} s"]
    if "failed" in record:
        figures = [f"failed: {record['failed']}"]
    seed = f" seed {record['seed']}" + (" with history" if record["history"] else "")
    print(f"  {record['stream']}  {record['learner']}{seed}  {'  '.join(figures)}", flush=True)
