"""Where streams stand, as a run asks of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.journal import BrokerJournal, EmbeddedJournal
from streams.errors import UnknownStream
from streams.log import EmbeddedLog


def test_an_embedded_log_tells_how_many_partitions_a_topic_has(tmp_path: Path) -> None:
    with EmbeddedLog(tmp_path / "l.sqlite") as log:
        log.append("orders", 2, "", 0.0, b"{}")
        log.append("paid", 0, "", 0.0, b"{}")
    with contextlib.closing(EmbeddedJournal(tmp_path / "l.sqlite")) as journal:
        assert (journal.partitions("orders"), journal.partitions("paid")) == (3, 1)
        with pytest.raises(UnknownStream, match=r"'order' is no topic of .+; there are: orders, paid"):
            journal.partitions("order")


@pytest.mark.kafka
def test_topics_are_prepared_with_as_many_partitions_as_are_asked_for(
    broker: str, topic: Callable[[str], str]
) -> None:
    journal, name = BrokerJournal(broker), topic("answers")
    for asked, found in ((1, 1), (3, 3), (2, 3)):
        journal.prepare([name], asked)
        assert journal.partitions(name) == found
