"""A broker of a test's own that can be killed and started again on the same address and log."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from importlib.resources import files
from pathlib import Path

_START = 60.0  # seconds a broker may take to answer


class RestartableBroker:
    """A node of the distribution that KAFKA_HOME names, where it has bin/kafka-node; else noida-db.

    data: an empty folder. address: "host:port", the same after every start. Whoever makes one kills it.
    settings: lines for the distribution's server.properties. keeps: whether it is the distribution, which
    keeps what it acknowledged; noida-db saves that once a second.
    """

    def __init__(self, data: Path, settings: tuple[str, ...] = ()) -> None:
        script = Path(os.environ.get("KAFKA_HOME") or data) / "bin/kafka-node"
        self._script = str(script) if script.exists() else None
        self._settings = [part for line in settings for part in ("--set", line)]
        self.keeps = self._script is not None
        self._node = str(data / "node")
        self._binary = data / "noida-db"
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port: int = probe.getsockname()[1]
        self.address = f"127.0.0.1:{self._port}"
        if self._script is None:
            shutil.copy(str(files("noida_db").joinpath("noida-db")), self._binary)
            self._binary.chmod(0o755)
        self.start()

    def start(self) -> None:
        """Start it, for the first time or again; it answers when this returns."""
        if self._script is not None:
            known = (Path(self._node) / "server.properties").exists()
            first = [] if known else ["--port", str(self._port), *self._settings]
            command = [self._script, "start", self._node, *first]
            for _ in range(2 if first else 0):
                if subprocess.run(command, stdout=subprocess.DEVNULL).returncode == 0:
                    return
                shutil.rmtree(self._node, ignore_errors=True)  # a random id that begins with a dash is no id
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            return
        options = ["--data-dir", self._node, "--only", "kafka", "--kafka-port", str(self._port)]
        self._process = subprocess.Popen(
            [str(self._binary), "start", *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self._binary.parent,
        )
        deadline = time.monotonic() + _START
        while True:
            try:
                socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
                return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("the broker did not start") from None
                time.sleep(0.05)

    def kill(self) -> None:
        """End it by SIGKILL, as a fault would."""
        if self._script is not None:
            subprocess.run([self._script, "stop", self._node, "--kill"], check=True)
        elif self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """Stop it in order."""
        if self._script is not None:
            subprocess.run([self._script, "stop", self._node], check=True)
        elif self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=30)
