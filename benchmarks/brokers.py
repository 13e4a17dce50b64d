"""A broker on this machine for what needs a real one: the one that is named, or one that is started."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

_START = 60.0  # seconds a broker may take to answer
_VERSIONS = bytes.fromhex("0000000e00120000000000010004") + b"wait"  # ApiVersions, version 0


@contextmanager
def a_broker(data: Path) -> Iterator[str]:
    """The address of a broker: KAFKA_BOOTSTRAP_SERVERS, else one that is started with its log under `data`.

    KAFKA_HOME names a distribution (with bin/kafka-node, or the usual scripts); without it the broker of the
    package noida-db is started. Topics must be made by `ensure_topics`.
    """
    address = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if address:
        yield address
        return
    home = os.environ.get("KAFKA_HOME")
    if home and (Path(home) / "bin/kafka-node").exists():
        start = _kafka_node(Path(home), data)
    elif home:
        start = _distribution(Path(home), data)
    else:
        start = _noida(data)
    with start as address:
        yield address


def called() -> str:
    """What `a_broker` gives, in words."""
    if os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        return "the broker that KAFKA_BOOTSTRAP_SERVERS names"
    return "Apache Kafka on the same cores" if os.environ.get("KAFKA_HOME") else "noida-db on the same cores"


@contextmanager
def _kafka_node(home: Path, data: Path) -> Iterator[str]:
    """A node through bin/kafka-node, which prints its address; tried again where another took its port first."""
    script = str(home / "bin/kafka-node")
    for attempt in range(3):
        node = str(data / f"node-{attempt}")
        started = subprocess.run([script, "start", node], capture_output=True, text=True, check=False)
        if not started.returncode:
            break
    else:
        raise RuntimeError(f"the broker did not start: {started.stdout}{started.stderr}")
    try:
        yield started.stdout.split()[-1]
    finally:
        subprocess.run([script, "stop", node], check=True)


@contextmanager
def _distribution(home: Path, data: Path) -> Iterator[str]:
    """A node of an unpacked distribution: one process that is broker and controller."""
    port, controller = _free_port(), _free_port()
    settings = data / "server.properties"
    settings.write_text(
        "process.roles=broker,controller\nnode.id=1\n"
        f"controller.quorum.voters=1@127.0.0.1:{controller}\n"
        f"listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n"
        f"advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n"
        "controller.listener.names=CONTROLLER\ninter.broker.listener.name=PLAINTEXT\n"
        "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n"
        f"log.dirs={data / 'log'}\n"
        "offsets.topic.replication.factor=1\ntransaction.state.log.replication.factor=1\n"
        "transaction.state.log.min.isr=1\ndefault.replication.factor=1\n"
        "group.initial.rebalance.delay.ms=0\nauto.create.topics.enable=false\n"
    )
    cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    format_log = [str(home / "bin/kafka-storage.sh"), "format", "-t", cluster, "-c", str(settings)]
    formatted = subprocess.run(format_log, capture_output=True, text=True)
    if formatted.returncode:
        raise RuntimeError(f"the broker's log was not formatted: {formatted.stdout}{formatted.stderr}")
    with _running([str(home / "bin/kafka-server-start.sh"), str(settings)], port, data):
        yield f"127.0.0.1:{port}"


@contextmanager
def _noida(data: Path) -> Iterator[str]:
    """The broker of the package noida-db: its binary itself, since its script would not pass signals on."""
    binary = data / "noida-db"
    shutil.copy(str(files("noida_db").joinpath("noida-db")), binary)
    binary.chmod(0o755)
    port = _free_port()
    options = ["--data-dir", str(data / "noida"), "--only", "kafka", "--kafka-port", str(port)]
    with _running([str(binary), "start", *options], port, data):
        yield f"127.0.0.1:{port}"


@contextmanager
def _running(command: list[str], port: int, data: Path) -> Iterator[None]:
    """The command as a process that answers on the port; stopped by SIGTERM, and killed where that fails."""
    output = data / "output.txt"
    with output.open("wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=data)
    try:
        deadline = time.monotonic() + _START
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the broker did not start: {output.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(port: int) -> bool:
    """Whether a broker on the port answers Kafka's ApiVersions request."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(_VERSIONS)
            return len(connection.recv(8)) == 8
    except OSError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
