"""Promises of the tables of many learners: what was measured is kept, figures are those by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from benchmarks import ablations, contest, first, job
from benchmarks.contest import Results, measure
from benchmarks.job import OWN, WITHOUT, Job
from benchmarks.standings import Contest, beside_the_best, everybody, remarks
from benchmarks.tables import Findings


def record(task: Job, accuracy: float, **more: Any) -> dict[str, Any]:
    """A record as a job leaves it."""
    fields = {name: getattr(task, name) for name in contest.JOB}
    figures = {"accuracy": accuracy, "log_loss": 0.5, "kappa_temporal": 0.5, "cpu_seconds": 1.0}
    return {**fields, **figures, "evaluated": 400, "versions": job.versions(task.learner), **more}


def test_what_was_measured_is_found_again_and_not_measured_twice(tmp_path: Path) -> None:
    task = Job(stream="phishing", learner="river-logistic", rows=60)
    kept = Results(tmp_path / "peers.json")
    assert measure([task], kept) == []
    first = kept.get(task)
    assert first is not None
    assert first["evaluated"] == 60
    assert 0.5 < first["accuracy"] < 1.0
    kept.add({**first, "accuracy": 0.123})
    again = Results(tmp_path / "peers.json")
    assert measure([task], again) == []
    assert again.get(task) == {**first, "accuracy": 0.123}


def test_a_record_of_other_versions_is_not_current(tmp_path: Path) -> None:
    task = Job(stream="phishing", learner="river-hat", rows=60)
    kept = Results(tmp_path / "peers.json")
    kept.add(record(task, 0.9))
    assert kept.current(task)
    kept.add(record(task, 0.9, versions="river 0.1"))
    assert not kept.current(task)


def test_a_figure_of_the_engine_depends_on_what_the_learner_imports_and_on_nothing_else() -> None:
    found = job.sources("engine.learner")
    assert {"engine.learner", "engine.kernels", "engine.rules.local", "memory.forest"} <= set(found)
    assert not [name for name in found if name.startswith(("streams", "engine.cli", "engine.run", "numpy"))]
    assert found["memory.forest"] == (job.Path(job.__file__).parent.parent / "memory/forest.py").read_bytes()


def test_a_job_that_takes_too_long_is_ended_and_noted_as_such(tmp_path: Path) -> None:
    task = Job(stream="bananas", learner="river-srp", rows=None)  # a minute's work
    kept = Results(tmp_path / "peers.json")
    assert measure([task], kept, limit=1) == []
    found = kept.get(task)
    assert found is not None
    assert found["over"] == 1
    assert "accuracy" not in found
    assert kept.current(task, limit=1)
    assert not kept.current(task, limit=60)


def test_a_job_that_fails_is_told_and_does_not_count_as_measured(tmp_path: Path) -> None:
    tasks = [Job(stream=s, learner="river-logistic", rows=60) for s in ("no such stream", "phishing")]
    kept = Results(tmp_path / "peers.json")
    (told,) = measure(tasks, kept, at_once=1)
    assert told.startswith("river-logistic failed on no such stream: ")
    assert "there is no built-in stream" in told
    assert [kept.get(task) is not None for task in tasks] == [False, True]


def test_peers_whose_environment_is_not_here_are_named_and_their_records_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contest, "versions", lambda learner: None)
    kept_one, other = (Job(stream=s, learner="moa-efdt", rows=60) for s in ("phishing", "bananas"))
    kept = Results(tmp_path / "peers.json")
    kept.add(record(kept_one, 0.9))
    assert measure([kept_one, other], kept) == [
        "Not measured: moa-efdt, whose environment is not here (`make capymoa`)."
    ]
    assert kept.current(kept_one)


def test_the_engine_runs_without_the_part_that_a_job_names(tmp_path: Path) -> None:
    whole, without = (
        job.run(Job(stream="phishing", learner=name, rows=400)) for name in (OWN, WITHOUT + "metric")
    )
    assert whole["log_loss"] != without["log_loss"]
    with pytest.raises(TypeError, match="no_such_part"):
        job.run(Job(stream="phishing", learner=WITHOUT + "no_such_part", rows=10))


@pytest.fixture
def two(tmp_path: Path) -> tuple[Contest, Results, Results]:
    """Two streams, two peers, two seeds of the engine; one peer was too slow on the second."""
    meeting = Contest(streams=("elec2", "weather"), peers=("river-arf", "river-hat"), seeds=(0, 1), rows=400)
    own, peers = Results(tmp_path / "everlearn.json"), Results(tmp_path / "peers.json")
    for stream, values in (("elec2", (0.94, 0.96)), ("weather", (0.7, 0.7))):
        for task, value in zip(meeting.jobs(OWN, stream), values, strict=True):
            own.add(record(task, value))
    for stream, learner, value in (
        ("elec2", "river-arf", 0.9),
        ("elec2", "river-hat", 0.8),
        ("weather", "river-hat", 0.8),
    ):
        peers.add(record(meeting.jobs(learner, stream)[0], value))
    slow = record(meeting.jobs("river-arf", "weather")[0], 0.0, over=1200)
    del slow["accuracy"]
    peers.add(slow)
    return meeting, own, peers


def test_the_engine_stands_beside_the_best_peer_of_each_stream(two: tuple[Contest, Results, Results]) -> None:
    found = Findings(name="t", title="T", about="", columns={"stream": 0})
    beside_the_best(found, *two, first=1)
    elec2, weather, first, both = found.rows
    assert (elec2["best peer"], weather["best peer"]) == ("River ARF-10", "River Hoeffding adaptive tree")
    assert elec2["everlearn"] == pytest.approx(0.95)
    assert elec2["standard error"] == pytest.approx(math.sqrt(0.9 * 0.1 / 400))
    assert elec2["behind, in standard errors"] == pytest.approx(-0.05 / 0.015)
    assert weather["behind, in standard errors"] == pytest.approx(0.1 / 0.02)
    assert (elec2["error ratio"], weather["error ratio"]) == (pytest.approx(0.5), pytest.approx(1.5))
    assert weather["label before"] == pytest.approx(1.0 - 0.3 / 0.5)
    assert first["error ratio"] == pytest.approx(0.5)
    assert both["error ratio"] == pytest.approx(math.sqrt(0.75))


def test_a_mean_error_is_compared_as_it_is(tmp_path: Path) -> None:
    meeting = Contest(
        streams=("bike_sharing",),
        peers=("river-arf", "river-hat"),
        seeds=(0,),
        rows=9,
        score="mae",
        second="rmse",
    )
    kept = Results(tmp_path / "values.json")
    for learner, mae in ((OWN, 2.0), ("river-arf", 4.0), ("river-hat", 5.0)):
        kept.add(record(meeting.jobs(learner, "bike_sharing")[0], 0.0, mae=mae, rmse=9.0))
    found = Findings(name="t", title="T", about="", columns={"stream": 0})
    beside_the_best(found, meeting, kept, kept)
    assert found.rows[0]["best peer"] == "River ARF-10"
    assert found.rows[0]["its MAE"] == 4.0
    assert found.rows[0]["error ratio"] == 0.5


def test_all_learners_are_shown_and_what_is_missing_is_said(two: tuple[Contest, Results, Results]) -> None:
    meeting, own, peers = two
    grid = everybody(meeting, "accuracy", "All", own, peers)
    assert grid.rows == [
        {"learner": "everlearn", "elec2": pytest.approx(0.95), "weather": 0.7},
        {"learner": "River ARF-10", "elec2": 0.9},
        {"learner": "River Hoeffding adaptive tree", "elec2": 0.8, "weather": 0.8},
    ]
    said = " ".join(remarks(meeting, own, peers))
    assert "River ARF-10 on weather was ended after 20 minutes of a core." in said
    assert job.versions("river-arf") in said
    assert "before its last change" not in said
    own.add(record(meeting.jobs(OWN, "weather")[1], 0.7, versions="sources 0"))
    assert "Figures of everlearn before its last change: weather." in remarks(meeting, own, peers)


def test_a_part_is_worth_the_errors_that_come_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Results(tmp_path / "everlearn.json")
    for stream in ("elec2", "weather"):
        for learner, wrong in ((OWN, 0.1), (WITHOUT + "trees", 0.2), (WITHOUT + "metric", 0.05)):
            for task in ablations.CONTEST.jobs(learner, stream):
                kept.add(record(task, 1.0 - wrong))
    monkeypatch.setattr(first, "own_kept", lambda: kept)
    monkeypatch.setattr(first, "measure", lambda *_, **__: [])
    found = ablations.run()
    rows = {row["left out"]: row for row in found.rows}
    assert rows["trees"]["error ratio"] == pytest.approx(2.0)
    assert rows["trees"]["streams that lose"] == "2 of 2"
    assert rows["metric"]["from"] == pytest.approx(0.5)
    assert rows["metric"]["streams that lose"] == "0 of 2"
    assert found.below[0].rows[1] == {
        "left out": "trees", "elec2": pytest.approx(2.0), "weather": pytest.approx(2.0)
    }  # fmt: skip


def test_further_tables_stand_below_on_the_page_and_in_its_json(tmp_path: Path) -> None:
    found = Findings(name="made", title="Made", about="About.", columns={"stream": 0, "x": 1})
    found.add(stream="s", x=1.0)
    found.below.append(
        Findings(name="", title="More", about="", columns={"learner": 0}, rows=[{"learner": "all"}])
    )
    page = found.write(tmp_path).read_text()
    assert page.index("| s | 1.0 |") < page.index("## More\n\n| learner |") < page.index("Run it:")
    (below,) = json.loads((tmp_path / "made.json").read_text())["tables"]
    assert below == {"title": "More", "rows": [{"learner": "all"}], "notes": []}
