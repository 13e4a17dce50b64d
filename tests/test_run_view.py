"""What a run shows: a table on a terminal, lines elsewhere."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from engine.evaluate.metrics import PrequentialMetrics
from engine.terminal import LiveView, PlainView, Progress, Row

FIGURES = {"events": 12_000, "accuracy": 0.78, "roc_auc": 0.7351, "log_loss": 0.49}
PROGRESS = Progress(
    rows=[Row.of("everlearn", FIGURES, 8123.4), Row.of("River ARF-10", {"events": 40}, None)],
    total=51_955,
    time=1357020900.0,
    experts={"layers": 0.6, "neighbours": 0.4, "prior": -0.01},
    drifts=2,
    last_drift=1357020900.0,
)


def test_a_terminal_shows_figures_experts_and_drift() -> None:
    out = StringIO()
    view = LiveView(Console(file=out, force_terminal=True, width=100))
    view.say("one line")
    view.show(PROGRESS)
    view.close()
    text = out.getvalue()
    for shown in ("one line", "everlearn", "12,000", "0.7351", "8,123", "23%", "River ARF-10", "layers"):
        assert shown in text
    assert "drifts 2, the last at 2013-01-01 06:15" in text


def test_a_regression_shows_its_errors_in_the_place_of_accuracy() -> None:
    metrics = PrequentialMetrics("regression")
    for y in (1.0, 2.0, 3.0):
        metrics.update(y, y + 0.25)
    progress = Progress(rows=[Row.of("everlearn", metrics.result(), None)])
    table, lines = StringIO(), StringIO()
    for view in (
        LiveView(Console(file=table, force_terminal=True, width=100)),
        PlainView(Console(file=lines)),
    ):
        view.show(progress)
        view.close()
    for text in (table.getvalue(), lines.getvalue()):
        assert "MAE" in text
        assert "0.2500" in text
        assert "accuracy" not in text
    assert lines.getvalue().startswith("everlearn: 3 labels, MAE 0.2500, RMSE 0.2500, R² 0.9062, –")
    empty = Row.of("everlearn", PrequentialMetrics("regression").result(), None)
    assert set(empty.measures.values()) == {None}


def test_a_stream_without_an_end_shows_no_share() -> None:
    out = StringIO()
    view = LiveView(Console(file=out, force_terminal=True, width=100))
    view.show(Progress(rows=PROGRESS.rows))
    view.close()
    assert "%" not in out.getvalue()


def test_a_pipe_gets_the_first_the_last_and_one_in_so_many() -> None:
    out = StringIO()
    view = PlainView(Console(file=out, width=200), every=4)
    for labels in range(6):
        view.show(Progress(rows=[Row("everlearn", labels, None, None, None, None)], total=9))
    view.close()
    view.close()
    assert [line.split()[1] for line in out.getvalue().splitlines()] == ["0", "4", "5"]
    assert "accuracy –" in out.getvalue()


def test_a_learner_that_is_finished_says_so_once() -> None:
    out = StringIO()
    view = PlainView(Console(file=out, width=200), every=1)
    for labels in range(3):
        rows = [Row("done", 9, None, None, None, None), Row("busy", labels, None, None, None, None)]
        view.show(Progress(rows=rows, total=9))
    view.close()
    assert [line.split(":")[0] for line in out.getvalue().splitlines()] == ["done", "busy", "busy", "busy"]
