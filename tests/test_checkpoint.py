"""The checkpoint's file: what comes back, what is refused."""

from __future__ import annotations

import json
import random
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import old_snapshots
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from engine.checkpoint import CheckpointError, NewerFormat, peek, read, write
from engine.checkpoint import file as checkpoint_file

ARRAYS, META = old_snapshots.ARRAYS, old_snapshots.META

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
        later.setattr(checkpoint_file, "VERSION", 9)
        write(tmp_path / "a", ARRAYS, META)
    with pytest.raises(NewerFormat, match="format version 9"):
        read(tmp_path / "a")


@pytest.mark.parametrize("path", [old_snapshots.FORMAT, None])
def test_a_version_that_is_damaged_is_told_from_a_later_one(tmp_path: Path, path: Path | None) -> None:
    if path is None:
        write(path := tmp_path / "whole", ARRAYS, META)
    whole = path.read_bytes()
    version = checkpoint_file.VERSION if path.parent == tmp_path else 1
    (tmp_path / "a").write_bytes(whole.replace(b'version\\": %d' % version, b'version\\": 7'))
    with pytest.raises(CheckpointError, match=f"damaged, its version reads 7 and was {version}") as told:
        read(tmp_path / "a")
    assert not isinstance(told.value, NewerFormat)
    with pytest.raises(NewerFormat, match="format version 7"):  # all of the file would have to be read
        peek(tmp_path / "a")


def test_a_later_format_that_is_arranged_otherwise_asks_for_an_update(tmp_path: Path) -> None:
    write(tmp_path / "a", ARRAYS, META)
    whole = (tmp_path / "a").read_bytes()
    version = b'version\\": %d' % checkpoint_file.VERSION
    other = whole.replace(version, b'version\\": 7').replace(b'"F64"', b'"C64"')
    assert len(other) == len(whole)
    (tmp_path / "a").write_bytes(other)
    for look in (read, peek):
        with pytest.raises(NewerFormat, match="format version 7"):
            look(tmp_path / "a")


def test_an_earlier_format_is_brought_up_step_by_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a", {"x": np.ones(2)}, {"steps": []})
    first = checkpoint_file.VERSION
    monkeypatch.setattr(checkpoint_file, "VERSION", first + 2)
    for version in (first, first + 1):
        monkeypatch.setitem(
            checkpoint_file.MIGRATIONS,
            version,
            lambda arrays, meta, v=version: (
                {"x": arrays["x"] + (v - first + 1)},
                {"steps": [*meta["steps"], v]},
            ),
        )
    arrays, meta = read(tmp_path / "a")
    assert arrays["x"].tolist() == [4.0, 4.0]
    assert meta == {"steps": [first, first + 1]}


def test_a_file_of_the_first_format_version_is_still_read() -> None:
    arrays, meta = read(old_snapshots.FORMAT)
    assert b'\\"version\\": 1,' in old_snapshots.FORMAT.read_bytes()
    assert meta == peek(old_snapshots.FORMAT) == META
    assert set(arrays) == set(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)


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


def test_a_file_is_what_safetensors_itself_would_write(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save

    kinds = ["?", "i1", "u1", "<i2", "<u2", "<f2", "<i4", "<u4", "<f4", "<i8", "<u8", "<f8"]
    arrays = {f"ü\n\x01 {kind}{n}": np.ones((n, 3), kind) for kind in kinds for n in (2, 0, 1)}
    write(tmp_path / "a", arrays, {"a": 1})
    data = (tmp_path / "a").read_bytes()
    head = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    text = np.frombuffer(b'{"a": 1}', np.uint8)
    assert data == save({**arrays, "everlearn.meta": text}, head["__metadata__"])
    back = load_file(tmp_path / "a")
    assert all(np.array_equal(back[name], array) for name, array in arrays.items())


def test_a_file_takes_no_copy_of_its_arrays_to_write_and_one_to_read(tmp_path: Path) -> None:
    size = 8_000_000
    arrays = {f"w{n}": np.full(size // 40, float(n)) for n in range(5)}
    tracemalloc.start()
    try:
        write(tmp_path / "a", arrays, META)
        written = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        back = read(tmp_path / "a")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert set(back[0]) == set(arrays)
    assert written < size // 8
    assert size < peak < size + size // 8


def test_a_peek_tells_the_meta_without_reading_the_arrays(tmp_path: Path) -> None:
    write(tmp_path / "a", {"a": np.ones(100_000), "z": np.ones(3, "u1")}, META)
    assert peek(tmp_path / "a") == META
    with open(tmp_path / "a", "r+b") as file:
        file.seek(5_000)
        file.write(b"damaged")
    assert peek(tmp_path / "a") == META
    with pytest.raises(CheckpointError, match="do not match its checksum"):
        read(tmp_path / "a")


def test_a_peek_at_a_file_torn_anywhere_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write(path, ARRAYS, META)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=str(path)):
            peek(path)


def test_a_peek_at_a_file_whose_meta_is_no_object_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write(path, {}, {"events": 3})
    whole = path.read_bytes()
    for text in (b'{"events": x}', b'["events", 3]', b'{"events": \xff}'):
        path.write_bytes(whole.replace(b'{"events": 3}', text))
        with pytest.raises(CheckpointError, match="its meta is no JSON object"):
            peek(path)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(meta=st.dictionaries(st.text(max_size=5), values, max_size=5))
def test_any_meta_comes_back_to_the_bit(tmp_path: Path, meta: dict[str, Any]) -> None:
    write(tmp_path / "a", {}, meta)
    back = read(tmp_path / "a")[1]
    assert json.dumps(back) == json.dumps(meta)  # tells -0.0 from 0.0 and 1 from 1.0, keeps the order
    assert peek(tmp_path / "a") == back


@pytest.mark.parametrize("odd", [float("inf"), float("nan"), 2**70, "\ud800", None])
def test_a_long_list_comes_back_with_what_is_odd_in_it(tmp_path: Path, odd: Any) -> None:
    chance = random.Random(5)
    numbers = [chance.random() for _ in range(3000)]
    for place in (0, 511, 512, 2999):
        values = [*numbers[:place], odd, *numbers[place:]]
        write(tmp_path / "a", {}, {"values": values, "pairs": [[1, value] for value in values]})
        assert json.dumps(read(tmp_path / "a")[1]["values"]) == json.dumps(values)
        assert json.dumps(read(tmp_path / "a")[1]["pairs"][-1]) == json.dumps([1, values[-1]])


def test_nan_pairs_and_keys_that_are_no_text_come_back_as_json_has_them(tmp_path: Path) -> None:
    write(tmp_path / "a", {}, {"nan": [float("nan")], "pair": (1, (2.5, "x")), 7: {True: [(1, {2: 3})]}})
    meta = read(tmp_path / "a")[1]
    assert json.dumps(meta) == '{"nan": [NaN], "pair": [1, [2.5, "x"]], "7": {"true": [[1, {"2": 3}]]}}'


shapes = st.lists(st.integers(0, 4), max_size=3)
entries = st.dictionaries(
    st.text(max_size=3),
    st.fixed_dictionaries(
        {
            "dtype": st.sampled_from(["F64", "U8", "BOOL", "BF16", 1]),
            "shape": shapes | st.lists(st.integers(-1, 2**70), max_size=3) | st.none(),
            "data_offsets": st.lists(st.integers(-1, 64), max_size=3) | st.none() | st.just([0, 1.5]),
        }
    )
    | st.none(),
    max_size=3,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(head=entries, data=st.binary(max_size=64))
def test_a_head_that_somebody_made_up_is_an_error_that_names_the_file(
    tmp_path: Path, head: dict[str, Any], data: bytes
) -> None:
    about = json.dumps({"format": checkpoint_file.FORMAT, "version": 2, "sha256": "0" * 64})
    text = json.dumps({**head, "__metadata__": {"everlearn": about}}).encode()
    (tmp_path / "a").write_bytes(len(text).to_bytes(8, "little") + text + data)
    for look in (read, peek):
        with pytest.raises(CheckpointError, match=str(tmp_path / "a")):
            look(tmp_path / "a")
