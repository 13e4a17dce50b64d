"""Tables are read as streams: kinds are found, bad values counted, and what cannot be read says why."""

from __future__ import annotations

import gzip
import math
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streams.errors import MessyTable, TableError
from streams.event import Event, Label, Malformed, TopicPartition
from streams.files import FileSource, read_table
from streams.merge import MergedSource


def csv(folder: Path, text: str, name: str = "rows.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_csv_columns_become_numbers_booleans_and_text(tmp_path: Path) -> None:
    path = csv(tmp_path, "i,f,b,s,y\n1,0.5,true,x,no\n-2,1e3,FALSE,y,yes\n,.25,,NA,no\n")
    table = read_table(path, "y")
    assert [row.x for row in table.rows()] == [
        {"i": 1, "f": 0.5, "b": True, "s": "x"},
        {"i": -2, "f": 1000.0, "b": False, "s": "y"},
        {"i": None, "f": 0.25, "b": None, "s": None},
    ]
    assert table.labels() == ["no", "yes", "no"]
    assert (table.columns, len(table), table.unreadable) == (["i", "f", "b", "s"], 3, 0)


def test_text_in_a_column_of_numbers_becomes_missing_with_a_warning_that_names_it(tmp_path: Path) -> None:
    path = csv(tmp_path, "a,b,y\n" + "1,2,0\n" * 40 + "oops,2,1\n" + "bad,3,0\n")
    with pytest.warns(MessyTable, match=r"column 'a', row 40 .*'oops' is not a number.*missing, 2 such"):
        table = read_table(path, "y")
    assert [row.x["a"] for row in table.rows(38)] == [1, 1, None, None]
    assert table.unreadable == 2
    arrays = table.arrays()
    assert arrays.X is not None
    assert np.isnan(arrays.X[40:, 0]).all()


def test_the_majority_of_the_first_thousand_rows_decides_a_columns_kind(tmp_path: Path) -> None:
    text = csv(tmp_path, "a,y\n" + "word,0\n" * 1000 + "1,0\n" * 5000)
    assert {type(row.x["a"]) for row in read_table(text, "y").rows()} == {str}
    numbers = csv(tmp_path, "a,y\n" + "1,0\n" * 1000 + "word,0\n" * 5000)
    with pytest.warns(MessyTable, match="5000 such"):
        table = read_table(numbers, "y")
    assert {type(row.x["a"]) for row in table.rows()} == {int, type(None)}


def test_a_column_that_starts_with_a_thousand_empty_rows_is_judged_by_the_rest(tmp_path: Path) -> None:
    path = csv(tmp_path, "a,y\n" + ",0\n" * 1500 + "2.5,0\n")
    assert [row.x["a"] for row in read_table(path, "y").rows(1499)] == [None, 2.5]


def test_rows_with_too_few_cells_are_left_out_and_counted(tmp_path: Path) -> None:
    path = csv(tmp_path, "a,b,y\n1,2,0\n3\n4,5,1\n")
    with pytest.warns(MessyTable, match="'3' is not a row of 3 cells"):
        table = read_table(path, "y")
    assert [row.x["a"] for row in table.rows()] == [1, 4]


def test_parquet_keeps_its_types_and_dates_become_seconds(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    columns = {
        "f": pa.array([1.5, math.nan], pa.float32()),
        "i": pa.array([1, None], pa.int16()),
        "c": pa.array(["u", "v"]).dictionary_encode(),
        "t": pa.array([0, 1_500_000], pa.timestamp("us")),
        "y": pa.array([True, False]),
    }
    pq.write_table(pa.table(columns), path)
    first, second = read_table(path, "y").rows()
    assert first.x == {"f": 1.5, "i": 1, "c": "u", "t": 0.0}
    assert (second.x["i"], second.x["t"], second.y) == (None, 1.5, False)
    assert math.isnan(second.x["f"])


def test_json_lines_keep_their_kinds_and_survive_what_does_not_fit(tmp_path: Path) -> None:
    lines = ['{"a":1,"b":"x","y":1}', '{"a":2.5,"y":0}', '{"a":"oops","b":"z","y":1}', "no json", ""]
    path = csv(tmp_path, "\n".join(lines), "rows.jsonl")
    with pytest.warns(MessyTable) as warned:
        table = read_table(path, "y")
    assert [row.x for row in table.rows()] == [
        {"a": 1.0, "b": "x"},
        {"a": 2.5, "b": None},
        {"a": None, "b": "z"},
    ]
    assert [str(w.message).split(": ", 1)[1][:28] for w in warned] == [
        "row 3: 'no json' is not a JS",
        "column 'a', row 2 (the first",
    ]


def test_compressed_and_tab_separated_files_are_read_too(tmp_path: Path) -> None:
    (tmp_path / "rows.csv.gz").write_bytes(gzip.compress(b"a,y\n1,0\n"))
    csv(tmp_path, "a\ty\n1\t0\n", "rows.tsv")
    for name in ("rows.csv.gz", "rows.tsv"):
        table = read_table(tmp_path / name, "y")
        assert (table.name, [row.x for row in table.rows()]) == ("rows", [{"a": 1}])


def test_arrays_and_rows_hold_the_same_numbers(tmp_path: Path) -> None:
    table = read_table(csv(tmp_path, "a,b,y\n1,true,u\n,false,v\n2.5,,u\n"), "y")
    X, columns, y = table.arrays()
    assert X is not None
    assert (columns, y) == (["a", "b"], ["u", "v", "u"])
    rows = [[math.nan if v is None else float(v) for v in row.x.values()] for row in table.rows()]
    np.testing.assert_array_equal(X, np.asarray(rows))


def test_arrays_have_no_X_where_a_column_is_text(tmp_path: Path) -> None:
    assert read_table(csv(tmp_path, "a,y\nx,0\n"), "y").arrays().X is None


def test_ignored_columns_and_times_are_no_features(tmp_path: Path) -> None:
    path = csv(tmp_path, "a,b,when,known,y\n1,2,1970-01-01T00:01:00Z,90,0\n")
    table = read_table(path, "y", ignore=["b"], time="when", label_time="known", key=["a"])
    (row,) = table.rows()
    assert (row.x, row.meta.time, row.meta.label_time) == ({"a": 1}, 60.0, 90.0)
    assert table.key == ("a",)


def test_the_target_decides_the_task(tmp_path: Path) -> None:
    assert read_table(csv(tmp_path, "a,y\n1,0.5\n"), "y").task == "regression"
    assert read_table(csv(tmp_path, "a,y\n1,2.0\n"), "y").task == "classification"
    assert read_table(csv(tmp_path, "a,y\n1,2\n"), "y", task="regression").task == "regression"


def test_an_unknown_file_is_an_error_with_the_formats_and_the_closest_name(tmp_path: Path) -> None:
    csv(tmp_path, "a,y\n1,0\n", "measurements.csv")
    with pytest.raises(TableError, match=r"measurments\.csv'; did you mean 'measurements\.csv'\?.*\.parquet"):
        read_table(tmp_path / "measurments.csv", "y")


def test_an_unknown_suffix_is_an_error_with_the_formats(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"ends in '\.xlsx'; expected one of \.csv"):
        read_table(csv(tmp_path, "", "rows.xlsx"), "y")


@pytest.mark.parametrize("parameter", ["target", "time", "label_time", "ignore", "key"])
def test_a_column_that_is_not_there_is_an_error_with_those_that_are(tmp_path: Path, parameter: str) -> None:
    path = csv(tmp_path, "price,volume,up\n1,2,0\n")
    asked = {"target": "up", parameter: ["Prices"] if parameter in ("ignore", "key") else "Prices"}
    with pytest.raises(TableError, match=rf"{parameter} is 'Prices'.*did you mean 'price'\?.*price, volume"):
        read_table(path, **asked)  # type: ignore[arg-type]  # one of the five parameters


@pytest.mark.parametrize(("name", "text"), [("a.csv", ""), ("a.csv", "a,y\n"), ("a.jsonl", "")])
def test_an_empty_stream_is_an_error(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(TableError, match=r"empty|no such column"):
        read_table(csv(tmp_path, text, name), "y")


@pytest.mark.parametrize("name", ["a.parquet", "a.csv.gz", "a.jsonl.gz", "a.jsonl"])
def test_a_file_that_is_not_what_its_suffix_says_is_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(TableError, match=r"not readable|no line is"):
        read_table(csv(tmp_path, "surely not this", name), "y")


def test_a_time_that_cannot_be_read_is_an_error_with_an_example(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"times such as 'noon'; expected seconds .* ISO 8601"):
        read_table(csv(tmp_path, "t,y\nnoon,0\n"), "y", time="t")


def test_columns_of_the_same_name_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"\['a'\] appear twice"):
        read_table(csv(tmp_path, "a,a,y\n1,2,0\n"), "y")


def test_ignoring_the_target_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="ignore names the target"):
        read_table(csv(tmp_path, "a,y\n1,0\n"), "y", ignore=["y"])


def test_events_are_named_by_file_and_row_and_timed_by_row_without_a_time(tmp_path: Path) -> None:
    source = FileSource(csv(tmp_path, "a,y\n1,0\n2,1\n"), "y")
    items = [record.item for record in source.poll(10)]
    assert items == [
        Event(id="rows:0", time=0.0, features={"a": 1}, label=0),
        Event(id="rows:1", time=1.0, features={"a": 2}, label=1),
    ]


def test_labels_with_a_time_of_their_own_come_when_they_are_known(tmp_path: Path) -> None:
    path = csv(tmp_path, "t,known,a,y\n0,25,1,u\n10,12,2,v\n20,22,3,w\n")
    source = MergedSource(FileSource(path, "y", time="t", label_time="known"))
    items = [record.item for record in source.poll(10)]
    assert [(type(item), item.time) for item in items] == [
        (Event, 0.0),
        (Event, 10.0),
        (Label, 12.0),
        (Event, 20.0),
        (Label, 22.0),
        (Label, 25.0),
    ]
    assert all(item.label is None for item in items if isinstance(item, Event))
    assert source.end_offsets() == {TopicPartition("rows", 0): 3, TopicPartition("rows.labels", 0): 3}


def test_a_row_without_its_time_is_malformed_and_not_lost(tmp_path: Path) -> None:
    source = FileSource(csv(tmp_path, "t,a,y\n1,1,0\n,2,1\n"), "y", time="t")
    first, second = (record.item for record in source.poll(10))
    assert isinstance(first, Event)
    assert isinstance(second, Malformed)
    assert "row 1" in second.error


def test_a_part_of_a_table_keeps_its_ids(tmp_path: Path) -> None:
    part = read_table(csv(tmp_path, "a,y\n1,0\n2,1\n3,0\n"), "y").slice(1, 3)
    assert (part.ids(), part.labels()) == (["rows:1", "rows:2"], [1, 0])


def test_a_clean_file_warns_of_nothing(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", MessyTable)
        read_table(csv(tmp_path, "a,y\n1,0\nNA,1\n?,0\n"), "y")


def test_a_label_time_needs_the_time_of_events(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    path.write_text("a,known,y\n1,100,0\n2,200,1\n")
    with pytest.raises(TableError, match=r"label_time is 'known' without time; expected both"):
        read_table(path, "y", label_time="known")


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_cells_parted_by_another_mark_are_told(tmp_path: Path, mark: str) -> None:
    path = tmp_path / "orders.csv"
    path.write_text(f"a{mark}y\n1{mark}0\n2{mark}1\n")
    with pytest.raises(TableError, match="seem to be parted by"):
        read_table(path, "y")


def test_a_binary_file_is_refused_in_one_readable_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "orders.csv"
    path.write_bytes(b"a,b\n" + bytes(range(128, 256)) * 20 + b"\n\xff\xfe,1,2,3\n")
    with pytest.raises(TableError) as caught:
        read_table(path, "b")
    assert str(caught.value).isprintable()
    assert capfd.readouterr().err == ""


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="is a folder; expected a file"):
        read_table(tmp_path, "y")
