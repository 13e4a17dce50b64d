"""Contents version 2 and models of that time, when names and what waits stood as JSON, go on to the bit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import old_snapshots
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import OnlineClassifier
from engine.checkpoint import Snapshot, peek, read
from engine.checkpoint.contents import up_to_date
from engine.checkpoint.file import encoded
from engine.evaluate.metrics import PrequentialMetrics
from engine.shard import Shard
from streams.event import Event, Position, Record
from tests.before_arrays import forecasts_before, learner_before, shard_before
from tests.small_models import bits, contents, described, regressor


def as_read(shard: Shard) -> dict[str, Any]:
    return bits(*shard.state())


def brought_up(arrays: dict[str, np.ndarray], shard: dict[str, Any]) -> Snapshot:
    """A snapshot of contents version 2 that was written and read."""
    meta = {"contents": 2, "config": {}, "positions": [], "shard": shard}
    return up_to_date(Snapshot(Path("a"), 1, 1, arrays, json.loads(encoded(meta))))


def resumed_as(run: Any, whole: Any) -> Any:
    """The run goes on to its end; what the first one wrote is what the undisturbed one wrote."""
    old = peek(run.store.ls()[-1].path)
    for sink, of, cursor in (
        (run.sink, whole.sink, old["cursor"]),
        (run.dead, whole.dead, old["dead_cursor"]),
    ):
        sink.messages, sink.headers = of.messages[:cursor], of.headers[:cursor]
    assert run.resume()
    assert run.run()
    return run


def alike(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """The same but for the last bits of what was learned, and for which ranks are occupied."""
    assert found.keys() == expected.keys()
    for name, array in found.items():
        if not name.startswith("metrics/"):
            np.testing.assert_allclose(array, expected[name], rtol=1e-3, atol=1e-3, err_msg=name)


def test_the_old_files_are_old_and_hold_what_they_should(tmp_path: Path) -> None:
    for path in (old_snapshots.LOOP_2, old_snapshots.unpacked(old_snapshots.LEARNER, tmp_path / "a")):
        meta = peek(path)
        assert meta["contents"] == 2
        assert meta["shard"]["metrics"]["ranks"]["bins"][0]
    learner = meta["shard"]["learner"]
    assert len(learner["experience"]) > 50
    assert len(learner["key_rows"]) > 50
    assert len(learner["fields"]["category_rows"]) > 20
    assert {late for *_, late in learner["overdue"]["waiting"]} == {False, True}
    assert all(learner["overdue"].values())
    assert len(meta["shard"]["pending"]["forecasts"]) > 10
    saved = peek(old_snapshots.unpacked(old_snapshots.MODEL, tmp_path / "b"))["model"]
    assert len(saved["experience"]) > 50
    assert {type(id) for _, id, *_ in saved["experience"]} == {str, int, bool, float, dict}


def test_a_run_goes_on_from_contents_of_version_2_to_the_bit(tmp_path: Path) -> None:
    whole = old_snapshots.loop(None)
    assert whole.run()
    shutil.copy(old_snapshots.LOOP_2, tmp_path / "0-g000001-s00000002.safetensors")
    resumed = resumed_as(old_snapshots.loop(tmp_path), whole)
    assert resumed.records == whole.records - old_snapshots.STOPPED_AFTER
    assert resumed.sink.messages == whole.sink.messages
    assert as_read(resumed.shard) == as_read(whole.shard)


def test_a_learner_goes_on_from_contents_of_version_2_to_the_bit(tmp_path: Path) -> None:
    whole, stopped = old_snapshots.learner_loop(None), old_snapshots.learner_loop(None)
    assert whole.run()
    assert not stopped.run(lambda: stopped.records >= old_snapshots.LEARNER_STOPPED_AFTER)
    path = old_snapshots.unpacked(old_snapshots.LEARNER, tmp_path / "0-g000001-s00000001.safetensors")
    brought, (arrays, meta) = up_to_date(Snapshot(path, 1, 1, *read(path))), stopped.shard.state()
    for name in ("fields.names", "fields.counts", "fields.rows", "key_rows", "experience.events"):
        assert brought.arrays[f"learner/{name}"].tobytes() == arrays[f"learner/{name}"].tobytes()
    for name in ("number", "time", "rows", "late"):
        found = brought.arrays[f"learner/overdue.{name}"]
        assert found.tobytes() == arrays[f"learner/overdue.{name}"].tobytes()
    resumed = resumed_as(old_snapshots.learner_loop(tmp_path), whole)
    if bits(brought.arrays, brought.meta["shard"]) == bits(arrays, meta):
        assert resumed.sink.messages == whole.sink.messages
        assert as_read(resumed.shard) == as_read(whole.shard)
    else:  # another processor wrote it, and rounds otherwise
        alike(brought.arrays, arrays)
        alike(resumed.shard.state()[0], whole.shard.state()[0])


def test_a_model_that_was_saved_before_goes_on_to_the_bit(tmp_path: Path) -> None:
    path = old_snapshots.unpacked(old_snapshots.MODEL, tmp_path / "model")
    whole = OnlineClassifier(**old_snapshots.SMALL, **old_snapshots.LATER)
    old_snapshots.teach(whole, 0, old_snapshots.MODEL_SAVED_AFTER, {})
    loaded = OnlineClassifier.load(path)
    same_bits = contents(loaded) == contents(whole)
    if not same_bits:  # another processor wrote it, and rounds otherwise
        alike(loaded.state()[0], whole.state()[0])
    for model in (loaded, whole):
        old_snapshots.teach(model, old_snapshots.MODEL_SAVED_AFTER, old_snapshots.MODEL_SAVED_AFTER + 60, {})
    assert described(loaded) == described(whole)
    assert not same_bits or contents(loaded) == contents(whole)
    loaded.save(tmp_path / "again")
    assert contents(OnlineClassifier.load(tmp_path / "again")) == contents(loaded)
    for id in (("pair", 1, None), 2**70, "\ud800"):
        assert loaded.forget(id) == whole.forget(id) > 0


@settings(max_examples=8, deadline=None)
@given(stop=st.integers(0, 345), more=st.integers(1, 60))
def test_a_state_is_restored_as_it_was_and_read_from_its_earlier_form_to_the_bit(
    stop: int, more: int
) -> None:
    run = old_snapshots.learner_loop(None)
    run.run(lambda: run.records >= stop)
    expected = as_read(run.shard)
    brought = brought_up(*shard_before(run.shard))
    assert bits(brought.arrays, brought.meta["shard"]) == expected
    arrays, meta = run.shard.state()
    for state in ((brought.arrays, brought.meta["shard"]), (arrays, json.loads(encoded(meta)))):
        other = old_snapshots.learner_loop(None).shard
        other.restore(*state)
        assert as_read(other) == expected
    run.run(lambda: run.records >= stop + more)
    assert bits(arrays, meta) == expected  # a copy does not change


def test_odd_names_are_read_from_their_earlier_form_to_the_bit() -> None:
    model, waiting = OnlineClassifier(**old_snapshots.SMALL, **old_snapshots.LATER), dict[int, Any]()
    old_snapshots.teach(model, 0, 90, waiting)
    waiting[90] = model.forecast_one({"new": 1.0, ("new", 2): float("nan"), "word": "x"}, id=2**70)
    meta = json.loads(encoded(learner_before(model._core, model.state()[1])))
    arrays, _ = model.pack(list(waiting.values()))
    old = json.loads(encoded(forecasts_before(list(waiting.values()))))
    copied = OnlineClassifier.from_state(model.state()[0], meta)
    assert contents(copied) == contents(model)
    again = copied.unpack({"records": arrays["records"]}, old)
    assert bits(copied.pack(again)[0], {}) == bits(arrays, {})
    for ours, theirs in zip(waiting.values(), again, strict=True):
        model.learn(ours, True)
        copied.learn(theirs, True)
    assert contents(copied) == contents(model)


def test_a_regression_is_read_from_its_earlier_form_to_the_bit() -> None:
    shard = Shard(regressor(), PrequentialMetrics("regression"))
    for i in range(30):
        event = Event(id=f"e{i}", time=float(i), features={"a": i % 7}, label=float(i % 7) if i % 3 else None)
        shard.step(Record(Position("e", 0, i), event))
    brought = brought_up(*shard_before(shard))
    assert bits(brought.arrays, brought.meta["shard"]) == as_read(shard)
    again = Shard(regressor(), PrequentialMetrics("regression"))
    again.restore(brought.arrays, brought.meta["shard"])
    assert as_read(again) == as_read(shard)
    assert again.metrics.result() == shard.metrics.result()
