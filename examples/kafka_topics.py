"""The loop attached to Kafka topics: python examples/kafka_topics.py HOST:PORT

Writes some orders and their outcomes to two new topics, as any producer would, then reads, answers into a
third and learns. `everlearn run --broker HOST:PORT --events … --labels … --snapshots DIR --from beginning`
is the same from the command line, live.
"""

import json
import random
import sys
import tempfile
import uuid

from kafka import KafkaConsumer, KafkaProducer

from engine import OnlineClassifier
from engine.checkpoint import CheckpointStore
from engine.evaluate.metrics import PrequentialMetrics
from engine.run import Loop
from engine.shard import Shard
from streams.broker import ensure_topics
from streams.kafka import KafkaSink, KafkaSource
from streams.merge import MergedSource

if len(sys.argv) != 2:
    sys.exit("expected the address of a broker: python examples/kafka_topics.py HOST:PORT")
address = sys.argv[1]
orders = f"orders-{uuid.uuid4().hex[:8]}"
outcomes, forecasts = f"{orders}.outcomes", f"{orders}.forecasts"
ensure_topics(address, {orders: 1, outcomes: 1, forecasts: 1})

# A producer, in whatever language: JSON messages, keyed by the event's id.
chance = random.Random(1)
producer = KafkaProducer(bootstrap_servers=address, acks="all")
for i in range(300):
    amount = round(chance.expovariate(0.02), 2)
    event = {"id": f"o{i}", "time": float(i), "features": {"amount": amount, "country": "NZ"}}
    label = {"id": f"o{i}", "time": i + 25.0, "label": "paid" if amount < 60 else "returned"}
    producer.send(orders, key=event["id"].encode(), value=json.dumps(event).encode())
    producer.send(outcomes, key=label["id"].encode(), value=json.dumps(label).encode())
producer.flush()
producer.close()

# The engine: bounded, so that it ends where the topics end now; without `bounded` it would go on for ever.
with tempfile.TemporaryDirectory() as snapshots:
    loop = Loop(
        Shard(OnlineClassifier(seed=0), PrequentialMetrics()),
        MergedSource(KafkaSource(address, [orders, outcomes], start="beginning", bounded=True)),
        KafkaSink(address, forecasts),
        CheckpointStore(snapshots),
    )
    loop.run()
    loop.source.close()
    loop.sink.close()
counts = loop.shard.counts
print(f"{counts.answered} orders answered, {counts.learned} outcomes learned")
print(f"accuracy of what was answered: {loop.shard.metrics.result()['accuracy']:.3f}")

# A reader of the answers.
reader = KafkaConsumer(
    forecasts, bootstrap_servers=address, auto_offset_reset="earliest", consumer_timeout_ms=10_000
)
answers = [json.loads(next(reader).value) for _ in range(counts.answered)]
reader.close()
print("answers in the topic:", len(answers))
print("last answer:", answers[-1])
