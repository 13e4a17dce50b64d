"""Checkpoints: what comes back, what is refused, which one counts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from engine import checkpoint
from engine.checkpoint import CheckpointError, CheckpointStore, NewerFormat, StaleWriter, read, write

ARRAYS = {
    "weights": np.arange(12.0).reshape(3, 4),
    "steps": np.array(7),
    "none": np.zeros((0, 3), np.float32),
}
META = {"events": 3, "seen": ["ü", 1, True, None, 0.1], "nested": {"b": 1, "a": float("inf")}}

dtypes = st.sampled_from(["?", "i1", "i4", "i8", "u1", "u8", "<f2", "<f4", "<f8", ">f8", ">i4"])
anything = dtypes.flatmap(lambda kind: hnp.arrays(kind, hnp.array_shapes(min_dims=0, min_side=0, max_side=4)))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    arrays=st.dictionaries(
        st.text(min_size=1, max_size=8).filter("__metadata__".__ne__), anything, max_size=4
    )
)
def test_arrays_of_any_kind_and_shape_come_back_to_the_bit(
    tmp_path: Path, arrays: dict[str, np.ndarray]
) -> None:
    write(tmp_path / "a", arrays, {})
    back, _ = read(tmp_path / "a")
    assert set(back) == set(arrays)
    for name, array in arrays.items():
        little = array.astype(array.dtype.newbyteorder("<"))
        assert back[name].dtype == little.dtype
        assert back[name].shape == little.shape
        assert back[name].tobytes() == little.tobytes()
        assert back[name].flags.writeable


def test_meta_comes_back_equal_and_in_its_order(tmp_path: Path) -> None:
    write(tmp_path / "a", ARRAYS, META)
    meta = read(tmp_path / "a")[1]
    assert meta == META
    assert list(meta["nested"]) == ["b", "a"]


def test_views_that_are_not_contiguous_are_stored_as_they_look(tmp_path: Path) -> None:
    view = np.arange(12.0).reshape(3, 4).T[::2]
    write(tmp_path / "a", {"view": view}, {})
    np.testing.assert_array_equal(read(tmp_path / "a")[0]["view"], view)


def test_an_array_of_objects_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"arrays\['bad'\] has dtype object"):
        write(tmp_path / "a", {"bad": np.array([{}])}, {})
    assert list(tmp_path.iterdir()) == []


def test_any_altered_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write(path, ARRAYS, META)
    whole = path.read_bytes()
    for place in range(len(whole)):
        broken = bytearray(whole)
        broken[place] ^= 1 << place % 8
        path.write_bytes(broken)
        with pytest.raises(CheckpointError):
            read(path)


def test_any_truncation_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write(path, ARRAYS, META)
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            read(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(CheckpointError):
        read(path)


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        read(tmp_path / "nothing")


@pytest.mark.parametrize("content", [b"not at all a checkpoint, merely text", b"PK\x03\x04" + bytes(100)])
def test_a_foreign_file_is_told_from_a_damaged_one(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(CheckpointError, match="not a checkpoint of everlearn"):
        read(tmp_path / "a")


def test_somebody_elses_safetensors_file_is_foreign(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"w": np.zeros(3)}, tmp_path / "a", {"format": "pt"})
    with pytest.raises(CheckpointError, match="not a checkpoint of everlearn"):
        read(tmp_path / "a")


def test_a_later_format_asks_for_an_update(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as later:
        later.setattr(checkpoint, "VERSION", 9)
        write(tmp_path / "a", ARRAYS, META)
    with pytest.raises(NewerFormat, match="format version 9"):
        read(tmp_path / "a")


def test_an_earlier_format_is_brought_up_step_by_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a", {"x": np.ones(2)}, {"steps": []})
    first = checkpoint.VERSION
    monkeypatch.setattr(checkpoint, "VERSION", first + 2)
    for version in (first, first + 1):
        monkeypatch.setitem(
            checkpoint.MIGRATIONS,
            version,
            lambda arrays, meta, v=version: (
                {"x": arrays["x"] + (v - first + 1)},
                {"steps": [*meta["steps"], v]},
            ),
        )
    arrays, meta = read(tmp_path / "a")
    assert arrays["x"].tolist() == [4.0, 4.0]
    assert meta == {"steps": [first, first + 1]}


def test_a_file_with_its_meta_in_the_head_is_still_read(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    blank = "0" * 64
    text = json.dumps({"format": checkpoint.FORMAT, "version": 1, "sha256": blank, "meta": META})
    told = text.replace(blank, checkpoint._digest(text, ARRAYS), 1)
    save_file(ARRAYS, tmp_path / "a", {"everlearn": told})
    arrays, meta = read(tmp_path / "a")
    assert meta == META
    assert set(arrays) == set(ARRAYS)
    np.testing.assert_array_equal(arrays["weights"], ARRAYS["weights"])


def test_meta_of_more_than_a_head_can_hold_comes_back(tmp_path: Path) -> None:
    texts = [f"{i:09d}" * 10_000 for i in range(1200)]  # 108 MB, above the 100 MB of a safetensors head
    write(tmp_path / "a", ARRAYS, {"texts": texts})
    arrays, meta = read(tmp_path / "a")
    assert meta == {"texts": texts}
    assert set(arrays) == set(ARRAYS)
    whole = bytearray((tmp_path / "a").read_bytes())
    whole[len(whole) // 2] ^= 1
    (tmp_path / "a").write_bytes(whole)
    with pytest.raises(CheckpointError, match="do not match its checksum"):
        read(tmp_path / "a")


def test_names_of_more_than_a_head_can_hold_are_an_error_that_counts_them(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"a: cannot be written .*found 2 arrays .*100,\d+,\d+ char"):
        write(tmp_path / "a", {"n" * 100_000_001: np.zeros(1)}, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["everlearn.meta", "__metadata__"])
def test_a_name_that_is_the_files_own_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}', which is the file's own"):
        write(tmp_path / "a", {name: np.zeros(1)}, {})


def test_the_newest_counts_and_only_the_last_few_stay(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=2)
    for events in range(5):
        store.save(ARRAYS, {"events": events})
    assert [entry.sequence for entry in store.ls()] == [4, 5]
    latest = store.latest()
    assert latest is not None
    assert latest.meta == {"events": 4}


def test_an_empty_store_has_no_latest(tmp_path: Path) -> None:
    assert CheckpointStore(tmp_path / "none").latest() is None
    assert CheckpointStore(tmp_path / "none").ls() == []


def test_a_damaged_newest_one_falls_back_to_the_one_before_and_is_reported(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    store.save(ARRAYS, {"events": 1})
    newest = store.save(ARRAYS, {"events": 2})
    newest.path.write_bytes(newest.path.read_bytes()[:-5])
    latest = store.latest()
    assert latest is not None
    assert latest.meta == {"events": 1}
    assert [path for path, _ in store.damaged] == [newest.path]


def test_a_store_with_nothing_whole_is_an_error_and_not_a_fresh_start(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    store.save(ARRAYS, META).path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="none of 1 checkpoints"):
        store.latest()


def test_a_checkpoint_of_a_later_release_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CheckpointStore(tmp_path)
    store.save(ARRAYS, {"events": 1})
    with monkeypatch.context() as later:
        later.setattr(checkpoint, "VERSION", checkpoint.VERSION + 1)
        store.save(ARRAYS, {"events": 2})
    with pytest.raises(NewerFormat):
        store.latest()


def test_a_process_that_was_replaced_can_neither_write_nor_outrank(tmp_path: Path) -> None:
    old, new = CheckpointStore(tmp_path), CheckpointStore(tmp_path)
    for events in range(3):
        old.save(ARRAYS, {"events": events})
    assert new.claim() == old.claim() + 1
    with pytest.raises(StaleWriter, match="taken over"):
        old.save(ARRAYS, {"events": 99})
    new.save(ARRAYS, {"events": 3})
    latest = new.latest()
    assert latest is not None
    assert (latest.generation, latest.meta) == (2, {"events": 3})


def test_shards_in_one_folder_do_not_see_each_other(tmp_path: Path) -> None:
    a, b = CheckpointStore(tmp_path, shard="a"), CheckpointStore(tmp_path, shard="a.b")
    a.save(ARRAYS, {"shard": "a"})
    assert b.latest() is None
    assert b.claim() == 1


def test_no_pickle_is_ever_read(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write(path, ARRAYS, META)
    size = int.from_bytes(path.read_bytes()[:8], "little")
    header = json.loads(path.read_bytes()[8 : 8 + size])
    assert {entry["dtype"] for name, entry in header.items() if name != "__metadata__"} <= {
        "F64",
        "F32",
        "I64",
        "U8",
    }


def test_bad_options_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="shard is 'a/b'"):
        CheckpointStore(tmp_path, shard="a/b")
    with pytest.raises(ValueError, match="keep is 0"):
        CheckpointStore(tmp_path, keep=0)
