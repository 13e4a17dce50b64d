"""The recorded order: what was synced is read back, torn tails go, generations take over, damage is told."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import order as module
from engine.checkpoint import CheckpointError, SnapshotNotWritten
from engine.order import Entry, Mark, Order, Stage
from streams.event import TopicPartition

A, B, C = (TopicPartition(name, 0) for name in "abc")

ends = st.dictionaries(st.sampled_from([A, B, C]), st.integers(0, 2**40), min_size=1)


def stages(rows: list[dict[TopicPartition, int]]) -> list[Entry]:
    """Stages whose partitions stay once they are there, as those of a source do."""
    known: dict[TopicPartition, int] = {}
    found: list[Entry] = []
    for row in rows:
        known |= row
        found.append(Stage(dict(known)))
    return found


def write(folder: Path, entries: list[Entry], generation: int = 1, number: int = 0) -> None:
    order = Order(folder)
    order.begin(generation, number)
    for entry in entries:
        order.append(entry)
    order.close()


def read(folder: Path, number: int = 0) -> list[Entry]:
    return [
        Stage({p: end for p, end in entry.ends.items() if end}) if isinstance(entry, Stage) else entry
        for entry in Order(folder).since(number)
    ]


def plain(entries: list[Entry]) -> list[Entry]:
    return [
        Stage({p: end for p, end in entry.ends.items() if end}) if isinstance(entry, Stage) else entry
        for entry in entries
    ]


@given(rows=st.lists(ends, max_size=12), segment=st.integers(1, 5), since=st.integers(0, 12), data=st.data())
def test_what_was_recorded_is_read_back_from_any_number_on(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[TopicPartition, int]], segment: int, since: int,
    data: st.DataObject,
) -> None:  # fmt: skip
    folder = tmp_path_factory.mktemp("order")
    entries: list[Entry] = stages(rows)
    marked: bool = data.draw(st.booleans())
    if entries and marked:
        entries.insert(data.draw(st.integers(0, len(entries) - 1)), Mark(True, {A: 3}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SEGMENT", segment)
        write(folder, entries)
    assert read(folder, since) == plain(entries)[since:]


def test_a_stage_that_changes_nothing_still_counts(tmp_path: Path) -> None:
    write(tmp_path, [Stage({A: 1}), Stage({A: 1}), Stage({A: 2})])
    assert len(read(tmp_path)) == 3


@given(cut=st.integers(1, 400))
def test_a_file_cut_anywhere_gives_the_entries_that_are_whole(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    folder = tmp_path_factory.mktemp("order")
    entries = stages([{A: i, B: 2 * i} for i in range(1, 9)])
    write(folder, entries)
    [path] = folder.glob("*.order")
    whole = path.read_bytes()
    path.write_bytes(whole[: max(len(whole) - cut, 0)])
    found = read(folder)
    assert found == entries[: len(found)]
    if cut <= 8:
        assert len(found) == 7


def test_a_tail_of_zeros_is_a_tail_that_was_never_written(tmp_path: Path) -> None:
    entries = stages([{A: 1}, {A: 2}])
    write(tmp_path, entries)
    [path] = tmp_path.glob("*.order")
    path.write_bytes(path.read_bytes() + bytes(100))
    assert read(tmp_path) == entries


def test_damage_in_the_middle_is_told_and_not_passed_over(tmp_path: Path) -> None:
    write(tmp_path, stages([{A: i} for i in range(1, 50)]))
    [path] = tmp_path.glob("*.order")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="damaged at byte"):
        Order(tmp_path).since(0)


def test_a_higher_generation_takes_over_from_its_first_number_on(tmp_path: Path) -> None:
    write(tmp_path, stages([{A: i} for i in range(1, 7)]), generation=1)
    write(tmp_path, stages([{A: 40}, {A: 50}]), generation=2, number=3)
    assert read(tmp_path) == stages([{A: 1}, {A: 2}, {A: 3}, {A: 40}, {A: 50}])
    assert read(tmp_path, 4) == [Stage({A: 50})]


def test_a_generation_that_recorded_nothing_takes_nothing_over(tmp_path: Path) -> None:
    write(tmp_path, stages([{A: 1}, {A: 2}]), generation=1)
    order = Order(tmp_path)
    order.begin(2, 1)
    order.close()
    assert len(read(tmp_path)) == 2


@given(
    cuts=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.booleans()), min_size=1, max_size=5),
    segment=st.integers(1, 4),
    number=st.integers(0, 24),
)
def test_what_is_read_does_not_depend_on_where_files_begin(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[tuple[int, int, bool]], segment: int, number: int,
) -> None:  # fmt: skip
    """Generations that begin anywhere within what was there: the list that they overwrite is the model."""
    folder = tmp_path_factory.mktemp("order")
    model: list[Entry] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SEGMENT", segment)
        for generation, (back, more, torn) in enumerate(cuts, 1):
            first = max(len(model) - back, 0)
            own = stages([{A: 1000 * generation + i + 1} for i in range(more)])
            write(folder, own, generation, first)
            if more:
                model = [*model[:first], *own]
            if torn and more:
                path = max(folder.glob(f"*g{generation:06d}*.order"))
                path.write_bytes(path.read_bytes()[:-1])
                if not (more - 1) % segment:  # the file holds this entry alone, but its head is whole
                    assert path.name.endswith(f"n{first + more - 1:010d}.order")
                model.pop()
    assert read(folder, number) == model[number:]


def test_the_end_of_a_long_order_is_read_without_what_came_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SEGMENT", 50)
    write(tmp_path, entries := stages([{A: i, B: 2 * i} for i in range(1, 1001)]))
    write(tmp_path, later := stages([{A: 2000 + i} for i in range(120)]), generation=2, number=990)
    opened: list[str] = []
    kept: list[dict[TopicPartition, int]] = []
    frames = module._frames

    def counted(path: Path) -> Iterator[Any]:
        opened.append(path.name)
        return frames(path)

    def stage(ends: dict[TopicPartition, int]) -> Stage:
        kept.append(ends)
        return Stage(ends)

    monkeypatch.setattr(module, "_frames", counted)
    monkeypatch.setattr(module, "Stage", stage)
    assert Order(tmp_path).since(1109) == later[119:]
    assert (opened, len(kept)) == (["0-g000002-n0000001090.order"], 1)
    assert Order(tmp_path).since(985) == [*entries[985:990], *later]
    assert (len(opened), len(kept)) == (1 + 4, 1 + 125)
    assert Order(tmp_path).since(995) == later[5:]
    assert (len(opened), len(kept)) == (1 + 4 + 3, 1 + 125 + 115)


def test_a_missing_file_in_between_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEGMENT", 2)
    write(tmp_path, stages([{A: i} for i in range(1, 8)]))
    sorted(tmp_path.glob("*.order"))[1].unlink()
    with pytest.raises(CheckpointError, match="gap"):
        Order(tmp_path).since(0)
    assert len(read(tmp_path, 4)) == 3


def test_whole_files_before_what_is_asked_for_may_be_removed_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the page on snapshots says: a run and replays behind it go on, a replay from scratch is refused."""
    monkeypatch.setattr(module, "SEGMENT", 2)
    entries = stages([{A: i} for i in range(1, 8)])
    write(tmp_path, entries)
    for path in sorted(tmp_path.glob("*.order"))[:2]:
        path.unlink()
    assert read(tmp_path, 5) == entries[5:]
    order = Order(tmp_path)
    order.begin(2, 7)
    order.append(Stage({A: 8}))
    order.close()
    assert read(tmp_path, 5) == [*entries[5:], Stage({A: 8})]
    with pytest.raises(CheckpointError, match="gap"):
        Order(tmp_path).since(0)


def test_an_entry_is_small(tmp_path: Path) -> None:
    write(tmp_path, stages([{A: 10 * i, B: 9 * i} for i in range(1, 1001)]))
    [path] = tmp_path.glob("*.order")
    assert path.stat().st_size <= 17 * 1000 + 100


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    write(tmp_path, stages([{A: 1}]))
    [path] = tmp_path.glob("*.order")
    path.write_bytes(path.read_bytes().replace(b"everlearn order", b"everlearn other"))
    with pytest.raises(CheckpointError, match="damaged at byte 0"):
        Order(tmp_path).since(0)


@given(at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_a_flipped_bit_is_told_or_takes_the_last_entry_alone(
    tmp_path_factory: pytest.TempPathFactory, at: int, bit: int
) -> None:
    folder = tmp_path_factory.mktemp("order")
    entries = stages([{A: 7 * i, B: 2 * i} for i in range(1, 30)])
    write(folder, entries)
    [path] = folder.glob("*.order")
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 1 << bit
    path.write_bytes(data)
    try:
        found = read(folder)
    except CheckpointError:
        return
    assert found in (entries, entries[:-1])


class Piecemeal:
    """A raw file that takes three bytes of every write."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.fileno, self.close = file.fileno, file.close

    def write(self, data: bytes) -> int:
        return int(self._file.write(data[:3]))


def test_a_stage_that_finds_room_in_pieces_is_whole(tmp_path: Path) -> None:
    """A disk that is nearly full takes a part of a write without an error."""
    order = Order(tmp_path)
    order.begin(1, 0)
    order.append(Mark(True, {}))
    order._file = Piecemeal(order._file)
    order.append(Mark(False, {A: 7}))
    order.close()
    assert Order(tmp_path).since(0) == [Mark(True, {}), Mark(False, {A: 7})]


class Full:
    """A raw file that takes so many bytes more, and then the disk is full."""

    def __init__(self, file: Any, room: int) -> None:
        self._file, self._room = file, room
        self.fileno, self.close = file.fileno, file.close

    def write(self, data: bytes) -> int:
        if not self._room:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = data[: self._room]
        self._room -= len(taken)
        return int(self._file.write(taken))


@given(entries=st.integers(0, 3), unsynced=st.integers(0, 2), room=st.integers(0, 11))
def test_a_full_disk_leaves_what_is_durable_and_once_there_is_room_it_goes_on(
    tmp_path_factory: pytest.TempPathFactory, entries: int, unsynced: int, room: int
) -> None:
    folder = tmp_path_factory.mktemp("order")
    order = Order(folder)
    order.begin(1, 0)
    for i in range(entries):
        order.append(Mark(False, {A: i}))
    order.sync()
    for i in range(unsynced):
        order.append(Mark(True, {A: i}))
    if order._file is None:
        order._create()
    durable, order._file = order._durable[0], Full(order._file, room)
    with pytest.raises(SnapshotNotWritten, match=r"order: not written \(No space.*make room") as error:
        order.append(Mark(True, {A: 9}))
    assert error.value.errno == errno.ENOSPC
    assert [path.stat().st_size for path in folder.glob("*.order")] == ([durable] if entries else [])
    assert order.number == entries
    order.append(Mark(True, {B: 1}))  # there is room again
    order.close()
    assert Order(folder).since(0) == [*(Mark(False, {A: i}) for i in range(entries)), Mark(True, {B: 1})]


def test_a_disk_that_fails_to_sync_is_not_believed_what_it_had_not_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = Order(tmp_path)
    order.begin(1, 0)
    order.append(Stage({A: 1}))
    order.sync()
    for i in (2, 3):
        order.append(Stage({A: i}))

    def fails(handle: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("engine.order.os.fdatasync", fails)
        with pytest.raises(SnapshotNotWritten, match="Input/output error"):
            order.sync()
    order.close()
    assert Order(tmp_path).since(0) == [Stage({A: 1})]
    order.append(Stage({A: 5}))
    order.close()
    assert Order(tmp_path).since(0) == [Stage({A: 1}), Stage({A: 5})]


def test_a_folder_that_takes_no_file_at_all_is_told_and_taken_up_again(tmp_path: Path) -> None:
    order = Order(tmp_path / "folder")
    order.begin(1, 0)
    (tmp_path / "folder").touch()
    with pytest.raises(SnapshotNotWritten, match="not written"):
        order.append(Stage({A: 1}))
    (tmp_path / "folder").unlink()
    order.append(Stage({A: 1}))
    order.close()
    assert Order(tmp_path / "folder").since(0) == [Stage({A: 1})]
