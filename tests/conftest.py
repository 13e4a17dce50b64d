"""What tests share: a broker, made if need be, and the folder of recorded streams."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import settings

from benchmarks import moa
from benchmarks.brokers import a_broker
from streams.clients import Client

settings.register_profile("everlearn", deadline=None)  # no test asks how long anything takes
settings.load_profile("everlearn")


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a broker, started for this session where none is named; see `benchmarks.brokers`.

    Topics must be made by `ensure_topics`; use `topic` for names of your own.
    """
    with a_broker(tmp_path_factory.mktemp("broker")) as address:
        yield address


@pytest.fixture
def topic() -> Callable[[str], str]:
    """Topic names that no other test uses: topic("events") → "events-1f0c…"."""
    suffix = uuid.uuid4().hex[:12]
    return lambda name: f"{name}-{suffix}"


@pytest.fixture
def admin(broker: str) -> Iterator[Any]:
    """kafka-python's admin client."""
    from kafka import KafkaAdminClient

    found = KafkaAdminClient(bootstrap_servers=broker)
    yield found
    found.close()


@pytest.fixture(params=get_args(Client))
def client(request: pytest.FixtureRequest) -> Client:
    """Each client of Kafka in turn: what is promised is the same."""
    found: Client = request.param
    return found


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of recorded streams; tests that need it carry the mark `data`."""
    return Path(os.environ["EVERLEARN_DATA"])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that need what is not here are deselected, each kind with its reason."""
    folder = os.environ.get("EVERLEARN_DATA")
    here = {
        "data": bool(folder) and Path(folder or "").is_dir(),
        "capymoa": moa.version() is not None,
        "sessions": bool(os.environ.get("KAFKA_BOOTSTRAP_SERVERS") or os.environ.get("KAFKA_HOME")),
    }
    for mark in (mark for mark, there in here.items() if not there):
        without = [item for item in items if item.get_closest_marker(mark)]
        if without:
            config.hook.pytest_deselected(items=without)
            items[:] = [item for item in items if not item.get_closest_marker(mark)]
            config.stash.setdefault(_LEFT_OUT, {})[mark] = len(without)


_LEFT_OUT = pytest.StashKey[dict[str, int]]()
_REASONS = {
    "data": "of recorded streams were left out: EVERLEARN_DATA names no folder that exists",
    "capymoa": "of CapyMOA's learners were left out: no Java or no environment of theirs; run `make capymoa`",
    "sessions": "of lost members were left out: they need Apache Kafka (KAFKA_HOME or "
    "KAFKA_BOOTSTRAP_SERVERS), the stand-in broker never ends a session",
}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say why tests were left out."""
    for mark, count in config.stash.get(_LEFT_OUT, {}).items():
        terminalreporter.write_line(f"{count} tests {_REASONS[mark]}")
