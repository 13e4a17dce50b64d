"""A broker of one's own, for tests that stop it, kill it and start it again on the same log and port."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from importlib.resources import files
from pathlib import Path

from tests.conftest import _answers, _free_port

_START = 60.0  # seconds a broker may take to answer


class Node:
    """One broker in a folder: Apache Kafka where KAFKA_HOME has bin/kafka-node, the package noida-db otherwise.

    settings: lines of Kafka's server.properties, which the other one does not read.
    """

    def __init__(self, folder: Path, settings: tuple[str, ...] = ()) -> None:
        self._folder = folder
        script = Path(os.environ.get("KAFKA_HOME", "/")) / "bin/kafka-node"
        self.is_kafka = script.exists()
        self._script = str(script)
        self._settings = [part for line in settings for part in ("--set", line)]
        self._process: subprocess.Popen[bytes] | None = None
        self._port = _free_port()
        if not self.is_kafka:
            shutil.copy(str(files("noida_db").joinpath("noida-db")), folder / "noida-db")
            (folder / "noida-db").chmod(0o755)
        self.address = f"127.0.0.1:{self._port}"
        self._first = True

    def start(self) -> None:
        """Start it and wait until it answers."""
        if self.is_kafka:
            first = ["--port", str(self._port), *self._settings] if self._first else []
            command = [self._script, "start", str(self._folder / "node"), *first]
            subprocess.run(command, check=True, capture_output=True)
        else:
            options = ["--data-dir", str(self._folder / "data"), "--only", "kafka"]
            command = [str(self._folder / "noida-db"), "start", *options, "--kafka-port", str(self._port)]
            with (self._folder / "output.txt").open("ab") as out:
                self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
            deadline = time.monotonic() + _START
            while not _answers(self._port):
                if time.monotonic() > deadline:
                    raise RuntimeError((self._folder / "output.txt").read_text(errors="replace")[-2000:])
                time.sleep(0.05)
        self._first = False

    def stop(self, *, kill: bool = False) -> None:
        """Stop it in order, or end it by SIGKILL."""
        if self.is_kafka:
            command = [self._script, "stop", str(self._folder / "node"), *(["--kill"] if kill else [])]
            subprocess.run(command, check=True)
        elif self._process is not None:
            if kill:
                self._process.kill()
            else:
                self._process.terminate()
            self._process.wait(timeout=30)

    def is_up(self) -> bool:
        """Whether something listens on the port."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0
