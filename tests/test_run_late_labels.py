"""The loop with the real learner: late labels and resuming change nothing, to the bit."""

from __future__ import annotations

import tempfile
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from engine import OnlineClassifier
from engine.checkpoint import CheckpointStore
from engine.evaluate.metrics import PrequentialMetrics
from engine.run import Loop
from engine.shard import Shard
from streams.event import Event, Label, TopicPartition
from streams.merge import MergedSource
from streams.replay import ListSink, ListSource
from tests.small_models import bits as bits_of

OPTIONS: dict[str, Any] = {"seed": 1, "layers": 1, "width": 4, "neighbours": 4, "keys": ("shop",)}

scalars = st.one_of(st.floats(-3, 3), st.none(), st.booleans())
rows = st.tuples(
    scalars,
    st.sampled_from(["n", "s", "w"]),
    st.sampled_from(["no", "yes", "perhaps"]),
    st.one_of(st.just(0.0), st.floats(0.1, 9.0)),  # delay of the label; 0: it comes with the event
)


def journal(drawn: list[tuple[Any, str, str, float]]) -> tuple[list[Event], list[Label]]:
    events, labels = [], []
    for i, (a, shop, y, delay) in enumerate(drawn):
        features = {"a": a, "shop": shop, f"f{i % 3}": float(i)}
        label = y if delay == 0 else None
        events.append(Event(id=str(i), time=float(i), features=features, label=label))
        if delay:
            labels.append(Label(id=str(i), time=i + delay, label=y))
    return events, sorted(labels, key=lambda label: label.time)


def source_of(drawn: list[tuple[Any, str, str, float]]) -> MergedSource:
    events, labels = journal(drawn)
    return MergedSource(ListSource({TopicPartition("e", 0): events, TopicPartition("l", 0): labels}))


def loop_of(drawn: list[tuple[Any, str, str, float]], sink: ListSink, store: CheckpointStore | None) -> Loop:
    shard = Shard(OnlineClassifier(**OPTIONS), PrequentialMetrics())
    return Loop(shard, source_of(drawn), sink, store, every_records=7)


def bits(model: Any) -> tuple[dict[str, bytes], dict[str, Any]]:
    arrays, meta = model.state()
    return {name: array.tobytes() for name, array in arrays.items()}, meta


@settings(max_examples=12, deadline=None)
@given(drawn=st.lists(rows, min_size=1, max_size=40))
def test_late_labels_through_the_loop_equal_the_same_calls_by_hand(drawn: list[Any]) -> None:
    sink = ListSink()
    loop = loop_of(drawn, sink, None)
    assert loop.run()
    model, kept, said = OnlineClassifier(**OPTIONS), {}, []
    events, labels = journal(drawn)
    for item in sorted([*events, *labels], key=lambda item: (item.time, isinstance(item, Label))):
        if isinstance(item, Label):
            model.learn(kept.pop(item.id), item.label)
            continue
        forecast = model.forecast_one(item.features, id=item.id, time=item.time)
        said.append(forecast.proba)
        model.observe(forecast)
        if item.label is None:
            kept[item.id] = forecast
        else:
            model.learn(forecast, item.label)
    assert [message.get("probabilities", {}) for _, message in sink.messages] == said
    assert bits(loop.shard.model) == bits(model)


@settings(max_examples=12, deadline=None)
@given(drawn=st.lists(rows, min_size=1, max_size=40), stop=st.integers(0, 60))
def test_a_loop_that_is_stopped_and_resumed_equals_one_left_alone(drawn: list[Any], stop: int) -> None:
    alone, wanted = ListSink(), loop_of(drawn, ListSink(), None)
    wanted.sink = alone
    assert wanted.run()
    sink = ListSink()
    with tempfile.TemporaryDirectory() as folder:
        first = loop_of(drawn, sink, CheckpointStore(folder))
        first.run(lambda: first.records >= stop)
        last = loop_of(drawn, sink, CheckpointStore(folder))
        assert last.run()
    assert sink.messages == alone.messages
    assert bits(last.shard.model) == bits(wanted.shard.model)
    assert bits_of(*last.shard.metrics.state()) == bits_of(*wanted.shard.metrics.state())
