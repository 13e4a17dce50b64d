"""What the documentation says is so: examples run, names and links exist, constants are those of the code."""

from __future__ import annotations

import doctest
import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine import (
    OnlineClassifier,
    experience,
    layout,
    mixing,
    newton,
    race,
    sleep,
    state,
    steps,
    watch,
    wide,
)
from engine.encoders import fields, filters, patches, picture, random_units
from engine.rules import local
from memory import (
    analytic,
    analytic_kernels,
    episodic_kernels,
    lookback,
    metric,
    neighbours,
    overdue,
    rates,
    surprise,
)

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("engine", "streams", "memory")
PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "examples/README.md",
        ROOT / "docker/README.md",
        *(ROOT / "docs").rglob("*.md"),
    ]
)
NEED_A_BROKER = ("streams.kafka", "streams.kafka_sink", "streams.group")


def modules() -> list[str]:
    """The modules of the packages that hold an example."""
    files = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in files
        if "    >>> " in path.read_text(encoding="utf-8")
    ]


@pytest.mark.parametrize("name", [name for name in modules() if name not in NEED_A_BROKER])
def test_the_examples_of_a_module_run(name: str) -> None:
    found = doctest.testmod(importlib.import_module(name))
    assert found.failed == 0
    assert found.attempted > 0


@pytest.mark.kafka
@pytest.mark.parametrize("name", NEED_A_BROKER)
def test_the_examples_of_a_module_that_talks_to_a_broker_run(
    name: str, broker: str, topic: Callable[[str], str]
) -> None:
    known = {"address": broker, "readings": topic("readings"), "answers": topic("answers")}
    found = doctest.testmod(importlib.import_module(name), extraglobs=known)
    assert found.failed == 0
    assert found.attempted > 0


@pytest.mark.parametrize(
    "name",
    ["engine.learner.OnlineClassifier", "engine.learner.OnlineRegressor", "streams.protocols.Source",
     "streams.protocols.Sink", "streams.protocols.Clock", "streams.log.EmbeddedLog", "streams.log.LogSink",
     "streams.log_source.LogSource", "streams.kafka.KafkaSource", "streams.kafka_sink.KafkaSink",
     "streams.membership.Membership", "streams.group.GroupMembership",
     "streams.merge.MergedSource", "streams.join.PendingForecasts", "streams.replay.ListSource"],
)  # fmt: skip
def test_a_public_class_shows_an_example(name: str) -> None:
    module, _, kind = name.rpartition(".")
    assert ">>> " in (getattr(importlib.import_module(module), kind).__doc__ or "")


def blocks(page: Path) -> list[str]:
    """The page's code marked python."""
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page)], ids=lambda page: str(page.relative_to(ROOT))
)
def test_python_on_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for block in blocks(page):
        names: dict[str, Any] = {}
        exec(compile(block, str(page), "exec"), names)
        assert (tmp_path / "model.everlearn").is_file()
        loaded = OnlineClassifier.load("model.everlearn")
        assert loaded.classes_ == names["model"].classes_


def test_sessions_on_a_page_say_what_comes_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pages = {page: re.findall(r"```pycon\n(.*?)```", page.read_text("utf-8"), re.DOTALL) for page in PAGES}
    assert pages[ROOT / "docs/messages.md"]
    for page, sessions in pages.items():
        runner, parser = doctest.DocTestRunner(), doctest.DocTestParser()
        runner.run(parser.get_doctest("\n".join(sessions), {}, str(page), str(page), 0))
        assert runner.failures == 0, page


def test_the_first_page_and_the_contracts_hold_python_and_say_what_comes_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = blocks(ROOT / "README.md")
    names: dict[str, Any] = {}
    exec(block, names)
    assert 'model.predict_proba_one(x)  # {"paid": 1.0}' in block
    assert names["model"].predict_proba_one(names["x"]) == {"paid": 1.0}
    (block,) = blocks(ROOT / "docs/contracts.md")
    exec(block, names)
    assert '# ("paid", "lost")' in block
    assert names["model"].classes_ == ("paid", "lost")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_files_that_a_page_names_exist(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        if "://" not in link:
            assert (page.parent / link).exists(), link
    for name in re.findall(r"`((?:engine|streams|memory|tests|docs|examples|docker)/[\w./-]*)`", text):
        assert (ROOT / name).exists(), name


def test_no_page_holds_the_marks_of_a_merge() -> None:
    marks = ("<" * 7 + " ", ">" * 7 + " ")
    found = [
        page.name for page in PAGES for line in page.read_text("utf-8").splitlines() if line.startswith(marks)
    ]
    assert not found


def test_every_page_stands_in_the_index() -> None:
    text = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    for page in (ROOT / "docs").rglob("*.md"):
        name = str(page.relative_to(ROOT / "docs"))
        assert name == "README.md" or f"({name})" in text or name.startswith("benchmarks/"), name


def test_the_constants_of_the_mathematics_are_those_of_the_code() -> None:
    text = " ".join((ROOT / "docs/mathematics.md").read_text(encoding="utf-8").split())
    defaults = OnlineClassifier()
    plain = "{:g}".format
    for said in (
        f"clipped to ±{steps.CLIP:g}",
        f"at most {picture.CHANNELS} channels",
        f"at most {picture.PIXELS:,} pixels",
        f"over {picture.cells(1)} × {picture.cells(1)} cells ({picture.cells(3)} × {picture.cells(3)} of three",
        f"first {wide.IMAGES} images",
        f"the {filters.EXTREMES:g} and {1 - filters.EXTREMES:g} quantiles",
        f"√(variance + {patches.NOISE:g})",
        f"Σ + {patches.RIDGE:g} (tr Σ/d) I",
        f"finds {filters.FILTERS} centres",
        f"{filters.NUMBERS:,} numbers are",
        f"θ the {filters.QUANTILE:g} quantile of a filter's answers, {patches.CELLS**2} cells",
        f"first images, within ±{filters.LOUDEST:g}",
        f"more than {layout.MANY} features, the vector is {random_units.UNITS:,} units",
        f"/(range/{random_units.EXTENT:g}) within ±{random_units.CLIP:g}",
        f"first {wide.ROWS} events",
        f"of z to {layout.BRIEF} numbers",
        f"from its {fields.OFTEN}th event",
        f"a {fields.COMMON}th part",
        f"up to {fields.ONE_HOT} values",
        f"(A_c + {rates.STRENGTH:g} π_c) / (B + {rates.STRENGTH:g})",
        f"none past {rates.WIDEST} classes",
        f"decayed over {steps.SLOW_PRIOR_DECAY:,.0f} labels",
        f"decayed over {steps.PRIOR_DECAY:g} labels",
        f"limited to ±{overdue.STEP_LIMIT:g} after",
        f"once {overdue.PATIENCE:g} e^m̂",
        f"{state.NEAR_EVENTS:,} by their features z, {state.CONTEXT_EVENTS:,} by outcome columns",
        f"the K = {defaults.neighbours} with",
        f"in log w, b (rate {metric.SCALE_RATE:g}) and A ({metric.MATRIX_RATE:g})",
        f"up to {metric.FULL_METRIC} features",
        f"votes {neighbours.VOTE_WEIGHT:g} s + {neighbours.VOTE_PRIOR:g}/C",
        f"with decay {local.SQUARE_DECAY:g}",
        f"stacks of {defaults.layers} × {defaults.width} run, at η = {defaults.rate:g} and "
        f"{defaults.slow_rate:g}",
        f"e is limited to ±{local.ERROR_LIMIT:g}",
        f"AdaGrad steps at {defaults.linear_rate:g}",
        f"(C − 1), {newton.LEAST_VARIANCE:g})",
        f"f = 1/{newton.LAMBDA:g} while",
        f"p₀ = {newton.PRIORS[0]:g} (firm) and {newton.PRIORS[1]:g} (loose)",
        f"same with {state.RANDOM_UNITS} random",
        f"v = {newton.PRECISION:g}, and the step",
        f"floored at {mixing.FLOOR:g}",
        f"η of {', '.join(map(plain, mixing.RATES[:-1]))}, {mixing.RATES[-1]:g}",
        f"P = {mixing.NEWTON_PRIOR:g} I at first, and is divided by {mixing.NEWTON_LAMBDA:g}",
        f"below {mixing.NEWTON_PRIOR:g} K",
        f"w_k p_k(y), then w ← (1 − {mixing.POSTERIOR_SHARE:g}) w + {mixing.POSTERIOR_SHARE:g}/K",
        f"exp(−|f_k − t|/s), then w ← (1 − {mixing.VALUE_SHARE:g}) w + {mixing.VALUE_SHARE:g}/K",
        f"q_m(y)^{mixing.TEMPER:g}",
        f"(1 − {mixing.SHARE:g}) v_m + {mixing.SHARE:g}/{mixing.MIXERS}",
        f"at most {watch.MOST:g}, and m",
        f"deviation over {watch.HORIZON:g} labels, g",
        f"/max(s, {watch.FLOOR:g}), {watch.STEP:g}) − {watch.SLACK:g}) is Page's",
        f"first {watch.FEWEST:g} labels, and nothing is done before label {watch.START}",
        f"Above {race.ASKED:g} the frozen",
        f"at most {watch.RING}, and then",
        f"within ±{race.CLIP:g}.",
        f"W_k > {race.TAKES_OVER:g} and is out once W_k < −{-race.FALLS_OUT:g}.",
        f"Above {race.COPIED:g} a copy",
        f"out not before {race.CLOSE} labels",
        f"grow by {race.WARY:g} of themselves with every race that finds nothing, up to {race.WARIEST:g} times",
        f"at most {race.LONGEST} labels",
        f"or {race.SHORTER} without such a copy",
        f"from label {sleep.START} on",
        f"every {sleep.CHECK} labels: if d + {sleep.SURE:g} s < {sleep.WORTH:g} Σ l",
        f"after {sleep.LONGEST:,} labels the sign",
        f"After {sleep.PATIENCE:,} labels, doubled up to {sleep.MOST_PATIENCE:,} with",
        f"last {sleep.RECENT:g} labels is above {sleep.ALARM:g} times that of the last {sleep.EARLIER:,.0f}",
        f"for {sleep.PROBATION:,} labels that do not count",
        f"{surprise.EVENTS} earlier events stand in {surprise.GROUPS} groups of {surprise.MEMBERS}",
        f"one event in {surprise.STORED} being stored",
        f"D(x, x_j) + {surprise.NEAREST:g})",
        f"/σ_f, {surprise.FARTHEST:g})",
        f"at most {surprise.RECENT:,}: 1",
        f"blocks of up to {analytic.BLOCK},",
        f"S/(N σσᵀ) + ({analytic.RIDGE_EVENTS:g}/N + {analytic.RIDGE:.4f}) I",
        f"deviations of {analytic_kernels.PROBES} recent events",
        f"steps of {analytic_kernels.TEMPERATURE_RATE:g} on the log loss",
        f"N has grown by {100 * (analytic_kernels.GROWTH - 1):.0f} %",
        f"n_c has grown by {100 * (analytic_kernels.CLASS_GROWTH - 1):.0f} %",
        f"n ({experience.SOON:g}/t + 1/{1 / experience.SELDOM:,.0f})",
        f"takes {analytic_kernels.FACTOR_EVENTS} events or more",
        f"−ln p(y) up to {episodic_kernels.MOST_SURPRISED:g}",
        f"({experience.WIDTH} units, the local rule, η = {experience.RATE:g})",
        f"decayed by {experience.LATELY:g}, at least {experience.SEEN_LATELY:g}",
        f"weights over {experience.AVERAGED:,.0f} events",
        f"before the last {experience.PAST}",
        f"w ← w + {experience.TELLING:g} (target",
        f"b ← b + {experience.TELLING * experience.OFFSET:g}",
        f"min(1, {1 / experience.DOUBTED:g} q)",
        f"and {('no', 'one', 'two', 'three', 'four', 'five', 'six')[experience.REHEARSALS]} with kept examples",
        f"none where p(y) is {experience.KNOWN:g} or more",
    ):
        assert said in text, f"{said!r}: a constant of the code changed; change the page with it"
    lengths = [f"{length:g}" for length in lookback.LENGTHS]
    assert "z − E₂ and z − E_H" in text
    assert lengths[lookback.SHORT] == "2"
    assert f"{lengths[lookback.USUAL]} at first, of {', '.join(lengths[1:-1])} and {lengths[-1]}" in text
    assert f"labels in {lookback.BUCKETS} buckets" in text
    assert f"contexts in {lookback.BINS} bins" in text
    assert (
        f"At {lookback.FIRST:,.0f} labels and whenever they have doubled, later every {lookback.MOST:,.0f}"
        in text
    )
    assert f"above {1 + lookback.BETTER:g} (I₀ + {lookback.NOISE:g}/√n)" in text
    assert local.SQUARE_DECAY == metric.METRIC_DECAY == mixing.SQUARE_DECAY
