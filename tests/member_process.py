"""A process that learns the shards which a group gives it: BROKER TOPIC NAME FOLDER.

It answers into the topic TOPIC-answers, keeps snapshots in FOLDER, and ends at SIGTERM.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from engine.checkpoint import CheckpointStore
from engine.evaluate.metrics import PrequentialMetrics
from engine.fleet import Fleet
from engine.run import Loop
from engine.shard import Shard
from engine.stop_signals import StopSignals
from streams.event import TopicPartition
from streams.group import GroupMembership
from streams.kafka import KafkaSink, KafkaSource
from tests.plain_learner import PlainLearner

OPTIONS = {"session_timeout_ms": 6000, "heartbeat_interval_ms": 300}


class AbandonedLoop(Loop):
    """A loop that can also be left as it is."""

    def abandon(self) -> None:
        self.close()


def plain_shard() -> Shard:
    return Shard(PlainLearner(), PrequentialMetrics("classification"))


def open_loop(broker: str, topic: str, folder: Path, shard: str) -> AbandonedLoop:
    print(f"opens {shard}", flush=True)
    source = KafkaSource(broker, topic, start="beginning")
    source.pause(
        [partition for partition in source.positions() if partition != TopicPartition(topic, int(shard))]
    )
    sink = KafkaSink(broker, f"{topic}-answers", int(shard))
    return AbandonedLoop(
        plain_shard(), source, sink, CheckpointStore(folder, shard=shard), every_records=50, batch=16
    )


def main(broker: str, topic: str, name: str, folder: Path) -> None:
    logging.basicConfig(stream=sys.stdout, level=logging.WARNING)
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    member = GroupMembership(
        broker, f"group-{topic}", topic, shards="partition", instance=name, options=OPTIONS
    )
    with StopSignals() as stop:
        Fleet(member, lambda shard: open_loop(broker, topic, folder, shard)).run(stop)
    print("ended", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4]))
