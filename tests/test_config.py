"""One configuration: file, variables and options over one another, and every mistake told at once."""

from __future__ import annotations

import inspect
import socket
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from engine import OnlineClassifier, OnlineRegressor
from engine.cli import main
from engine.commands.config import TEMPLATES, examples, lines, reference
from engine.config.config import Config
from engine.config.cross_checks import WITH_REGISTRY
from engine.config.errors import ConfigError
from engine.config.identity import MAY_CHANGE, MUST_STAY
from engine.config.settings import OPTIONS, Settings, keys, read_config, variable
from engine.demo import FORECASTS, KEYS
from streams.flights import EVENTS, LABELS
from streams.log import EmbeddedLog

ROOT = Path(__file__).resolve().parent.parent
MINIMAL = '[source]\nlog = "l.sqlite"\nevents = "e"\n[snapshots]\nfolder = "s"\n'
BROKER = MINIMAL.replace('log = "l.sqlite"', 'broker = "b:9092"')


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for path, _ in keys():
        monkeypatch.delenv(variable(path), raising=False)


def written(folder: Path, text: str) -> Path:
    path = folder / "run.toml"
    path.write_text(text, encoding="utf-8")
    return path


def read(folder: Path, text: str, **options: Any) -> Settings:
    return read_config(written(folder, text), {f"--{name}": value for name, value in options.items()})


def problems(folder: Path, text: str, **options: Any) -> list[str]:
    with pytest.raises(ConfigError) as told:
        read(folder, text, **options)
    return told.value.problems


def everlearn(*arguments: object, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    before, sys.argv = sys.argv, ["everlearn", *map(str, arguments)]
    try:
        main()
        code: Any = 0
    except SystemExit as end:
        code = end.code or 0
    finally:
        sys.argv = before
    return code, *capsys.readouterr()


def test_options_go_over_variables_and_variables_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERLEARN_SOURCE__EVENTS", "from_variable")
    monkeypatch.setenv("EVERLEARN_LEARNER__SEED", "5")
    monkeypatch.setenv("EVERLEARN_LEARNER__KEYS", '["a", ["a", "b"]]')
    monkeypatch.setenv("EVERLEARN_TASK", "regression")
    found = read(tmp_path, MINIMAL + "[learner]\nseed = 4\nwidth = 32\n", **{"seed": 0, "events": None})
    config = found.config
    assert (config.task, config.source.events, config.learner.width) == ("regression", "from_variable", 32)
    assert config.learner_options["keys"] == ("a", ("a", "b"))
    assert config.learner.seed == 0
    assert config.forecasts.topic == "from_variable.forecasts"
    assert found.origin("learner.seed") == ("option", "--seed")
    assert found.origin("source.events") == ("environment", "EVERLEARN_SOURCE__EVENTS")
    assert found.origin("learner.width") == ("file", str(tmp_path / "run.toml"))
    assert found.origin("learner.layers") == ("default", "")


def test_no_file_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERLEARN_SOURCE__BROKER", "b:9092")
    monkeypatch.setenv("EVERLEARN_SOURCE__FROM", "2024-05-01T02:00:00+02:00")
    monkeypatch.setenv("EVERLEARN_SOURCE__LABELS", "")
    found = read_config(None, {"--events": "e", "--snapshots": "s"}).config
    assert (found.source.broker, found.start, found.source.labels) == ("b:9092", 1714521600.0, None)


def test_a_later_place_that_names_a_log_sets_aside_the_broker_of_an_earlier_one(tmp_path: Path) -> None:
    found = read(tmp_path, BROKER, log=Path("l.sqlite")).config.source
    assert (found.broker, found.log) == (None, Path("l.sqlite"))


@pytest.mark.parametrize(
    ("given", "start"),
    [
        ('"beginning"', "beginning"),
        ('"end"', "end"),
        ("2024-05-01T00:00:00Z", 1714521600.0),
        ('"2024-05-01"', 1714521600.0),
        ("1714521600", 1714521600.0),
        ('"1714521600.5"', 1714521600.5),
        ('"past/orders.parquet"', Path("past/orders.parquet")),
        ('"orders.csv.gz"', Path("orders.csv.gz")),
    ],
)
def test_a_first_run_begins_at_a_word_a_time_or_a_file(
    tmp_path: Path, given: str, start: str | float | Path
) -> None:
    assert read(tmp_path, MINIMAL.replace("[snap", f"from = {given}\n[snap")).config.start == start


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("task", '"clasification"', "task is 'clasification'; expected one of 'classification', 'regression'"),
        ("source.event", '"x"', "source.event is no setting; the nearest is source.events"),
        ("sorce.events", '"x"', "sorce is no setting; the nearest is source"),
        ("learner.every_seconds", "3", "learner.every_seconds is no setting; the nearest is snapshots.every"),
        ("learner.memory_budget", "3", "learner.memory_budget is no setting; expected memory.budget"),
        ("source.batch", "0", "source.batch is 0; expected at least 1"),
        ("source.batch", '"many"', "source.batch is 'many'; expected a whole number"),
        ("source.batch", "1.5", "source.batch is 1.5; expected a whole number"),
        ("source.batch", "true", "source.batch is true; expected a number or text"),
        ("source.bounded", '"maybe"', "source.bounded is 'maybe'; expected true or false"),
        ("source.from", '"begining"', "source.from is 'begining'; expected beginning, .*; the nearest is beg"),
        ("source.from", "-1", "source.from is -1; expected beginning, end, a time"),
        ("source.labels", '"a b"', "source.labels is 'a b'; expected a topic's name"),
        ("source.labels", '""', "source.labels is ''; expected text that is not empty"),
        ("source.settings", "3", "source.settings is not shown, because .*; expected a table"),
        ("fields.features", "3", "fields.features is 3; expected a list"),
        ("labels.max_age", "0", "labels.max_age is 0; expected above 0"),
        ("labels.max_age", "inf", "labels.max_age is inf; expected a finite number"),
        ("learner.horizons", "[]", r"learner.horizons is \[\]; expected a list of at least one"),
        ("learner.keys", '"shop"', "learner.keys is 'shop'; expected a list"),
        ("learner.activation", '"relu"', "learner.activation is 'relu'; expected one of 'leaky_relu', 'tanh',"),
        ("metrics.port", "70000", "metrics.port is 70000; expected at most 65535"),
        ("dead.max_ratio", "1.5", "dead.max_ratio is 1.5; expected at most 1"),
        ("format.registry.url", '"registry:8081"', "url is not shown, .*; expected an address such as http://"),
        ("log.level", '"all"', "log.level is 'all'; expected one of 'debug', 'info', 'warning', 'error'"),
    ],
)  # fmt: skip
def test_a_mistake_names_file_key_value_and_what_was_expected(
    tmp_path: Path, key: str, value: str, said: str
) -> None:
    section, _, name = key.rpartition(".")
    if not section:
        text = f"{name} = {value}\n{MINIMAL}"
    elif f"[{section}]" in MINIMAL:
        text = MINIMAL.replace(f"[{section}]", f"[{section}]\n{name} = {value}")
    else:
        text = f"{MINIMAL}[{section}]\n{name} = {value}\n"
    with pytest.raises(ConfigError, match=said) as told:
        read(tmp_path, text)
    assert str(told.value).startswith(f"{tmp_path / 'run.toml'}: ")
    assert len(told.value.problems) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[source]\nevents = 'e'\nbroker='b:1'\nlog='l'\n[snapshots]\nfolder = 's'", "both of source.log and"),
        ("[source]\nevents = 'e'\n[snapshots]\nfolder = 's'", "neither of source.log and source.broker"),
        ("[source]\nlog = 'l'\n[snapshots]\nfolder = 's'", "source.events is not given; expected the topic"),
        ("[source]\nlog = 'l'\nevents = 'e'", "snapshots.folder is not given; .* or --snapshots"),
        (f"{MINIMAL}[forecasts]\ntopic = 'e'", "forecasts.topic and source.events are both topic 'e'"),
        (f"{MINIMAL}[dead]\ntopic = 'e.forecasts'", "forecasts.topic and dead.topic are both topic 'e.f"),
        (f"{MINIMAL}[labels]\nreport = 'e'", "labels.report and source.events are both topic 'e'; .* cuts"),
        (f"{MINIMAL}[forecasts]\ntransactional = true", "forecasts.transactional is given without a broker"),
        (MINIMAL.replace("[snap", "client = 'confluent'\n[snap"), "source.client is given without a broker"),
        (BROKER.replace("[snap", "shards = 'partition'\n[snap"), "source.shards is 'partition' without source"),
        (BROKER.replace("[snap", "instance = 'a'\n[snap"), "source.instance is 'a' without source.group"),
        (MINIMAL.replace("[snap", "from = 'l.sqlite'\n[snap"), "source.from is the embedded log l.sqlite that"),
        (f"{MINIMAL}[learning]\nat_most = 3", "learning.at_most is given without learning.per; expected both"),
        (f"{MINIMAL}[learning]\nper = 3", "learning.per is given without learning.at_most; expected both"),
        (f"{MINIMAL}[format]\nevents = 'avro'", "format.events is 'avro' without format.registry.url"),
        (f"{MINIMAL}[format.registry]\nusername = 'u'", "one of format.registry.username and .*; expected both"),
        (f"{MINIMAL}[fields]\nid = 'a'\ntarget = 'x'", "fields.id is given without fields.time; .* or \\$tim"),
        (f"{MINIMAL}[fields]\ntime = 'a'", "fields.time is given without fields.id; .* or \\$key"),
        (f"{MINIMAL}[fields]\nid = 'a'\ntime = 't'\nfeatures = ['x']\nexclude = ['y']", "fields.exclude is"),
        (BROKER + "[source.settings]\nsasl_mechanisms = 'PLAIN'", "no setting of kafka-python; the nearest"),
        (BROKER + "[source.settings]\nsecurity_protocol = 'SASL_SSL'", "SASL_SSL and sasl_mechanism is not"),
        (BROKER + "[source.settings]\nssl_password_file = 'nowhere'", "ssl_password_file names a file .*No such"),
        (MINIMAL + "[source.settings]\nclient_id = 'me'", "source.settings is given without source.broker"),
        ("security.protocol=SSL", "not TOML"),
        ("\ud800".encode("utf-8", "surrogatepass").decode("latin-1"), "not TOML"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_together_are_told_with_what_to_do(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as told:
        read(tmp_path, text)
    assert len(told.value.problems) == 1


def test_labels_in_fields_need_a_topic_of_their_own(tmp_path: Path) -> None:
    fields = "[fields]\nlabel = 'paid'\n"
    found = problems(tmp_path, MINIMAL + fields)
    assert "fields.label is given without source.labels; expected the topic of labels" in found[0]
    assert [text.partition(";")[0] for text in found[1:]] == [
        "fields.label is given without fields.label_id",
        "fields.label is given without fields.label_time",
    ]
    same = MINIMAL.replace("[snap", "labels = 'e'\n[snap") + "[fields]\nid = 'a'\ntime = 't'\n"
    assert "fields cannot tell the two apart" in problems(tmp_path, same)[0]


def test_all_mistakes_come_in_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EVERLEARN_LABELS__MAX_AGE", "long")
    monkeypatch.setenv("EVERLEARN_SOURCE__BROKR", "x")
    text = "[source]\nbatch = 0\nunknown = 1\n[learning]\nat_most = 3\n[snapshots]\nfolder = 's'\n"
    code, _, err = everlearn("run", "--config", written(tmp_path, text), capsys=capsys)
    assert code == 2
    assert err.splitlines()[0] == "Error: 7 settings cannot be used:"
    for said in ("EVERLEARN_SOURCE__BROKR is no setting; the nearest is EVERLEARN_SOURCE__BROKER",
                 "source.batch is 0", "source.unknown is no setting", "source.events is not given",
                 "EVERLEARN_LABELS__MAX_AGE is 'long'; expected a number", "learning.at_most is given without",
                 "neither of source.log and source.broker"):  # fmt: skip
        assert err.count(said) == 1, said


def test_variables_of_another_meaning_do_no_harm_and_near_misses_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = {"--events": "e", "--snapshots": "s", "--log": "l"}
    for name in ("EVERLEARN_DATA", "EVERLEARN_CACHE", "EVERLEARN_CRASH_AT", "EVERLEARN_HOME"):
        monkeypatch.setenv(name, "x")
    assert read_config(None, options).config.source.events == "e"
    near = {
        "EVERLEARN_SOURCE_BROKER": "EVERLEARN_SOURCE__BROKER",
        "EVERLEARN_LOG": "EVERLEARN_LOG__LEVEL",
        "EVERLEARN_SNAPSHOT__FOLDER": "EVERLEARN_SNAPSHOTS__FOLDER",
    }
    for name in near:
        monkeypatch.setenv(name, "x")
    with pytest.raises(ConfigError) as told:
        read_config(None, options)
    assert sorted(told.value.problems) == [
        f"{name} is no setting; the nearest is {known}. Rename or unset it"
        for name, known in sorted(near.items())
    ]


def test_settings_of_the_broker_come_from_file_variables_and_the_file_of_the_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERLEARN_SOURCE__SETTINGS__SASL_PLAIN_PASSWORD", "12345678")
    monkeypatch.setenv("EVERLEARN_SOURCE__SETTINGS__REQUEST_TIMEOUT_MS", "31000")
    monkeypatch.setenv("EVERLEARN_SOURCE__SETTINGS__SSL_CHECK_HOSTNAME", "false")
    (tmp_path / "broker.toml").write_text('client_id = "till-7"\n')
    (tmp_path / "secret").write_text("open sesame\n")
    text = (
        BROKER + '[source.settings]\nsocket_options = [[6, 1, 1]]\nclient_id = "other"\n'
        f'ssl_password_file = "{tmp_path / "secret"}"\n'
    )
    found = read(tmp_path, text, **{"broker-config": tmp_path / "broker.toml"})
    assert found.config.broker_options == {
        "socket_options": ((6, 1, 1),),
        "client_id": "till-7",
        "ssl_password": "open sesame",
        "sasl_plain_password": "12345678",
        "request_timeout_ms": 31000,
        "ssl_check_hostname": False,
    }
    assert found.origin("source.settings.client_id").name == f"--broker-config {tmp_path / 'broker.toml'}"
    for shown in (repr(found), str(found.config), "\n".join(lines(found)), found.config.model_dump_json()):
        assert "12345678" not in shown
        assert "open sesame" not in shown


@pytest.mark.parametrize(
    "text",
    [
        BROKER + '[source.settings]\nsasl_plain_password = 12345678\n',
        BROKER + '[source.settings]\nsasl_plain_password = "12345678"\nsecurity_protocol = "SASL_SSL"\n',
        BROKER + '[format.registry]\npassword = 12345678\n',
        BROKER + '[format.registry]\ntoken = ["12345678"]\n',
        BROKER + '[sorce.settings]\nsasl_plain_password = "12345678"\n',
    ],
)  # fmt: skip
def test_no_error_shows_a_secret(tmp_path: Path, text: str) -> None:
    assert all("12345678" not in problem for problem in problems(tmp_path, text))


@pytest.mark.parametrize(
    "text",
    [
        BROKER + '[source.settings]\nssl_password_file = "hunter2"\n',
        BROKER + '[format.registry]\nurl = "hunter2"\n',
        BROKER + '[format.registry]\nca_file = ["hunter2"]\n',
        '[[source]]\nbroker = "b"\n[source.settings]\nsasl_plain_password = "hunter2"\n',
        '[[format]]\n[format.registry]\npassword = "hunter2"\n',
        'format = {registry = ["hunter2"]}\n',
        'source = {settings = ["hunter2"]}\n',
        '[source.settings]\nsasl_plain_password = "hunter2\n',
    ],
)  # fmt: skip
def test_what_stands_where_secrets_stand_is_never_repeated(tmp_path: Path, text: str) -> None:
    found = problems(tmp_path, text)
    assert found
    assert "hunter2" not in " ".join(found)


@pytest.mark.parametrize(
    "value",
    ['{"sasl_plain_password": "hunter2"', '["hunter2"]', '"hunter2"', "hunter2", "ssl_password = 'hunter2'"],
)  # fmt: skip
def test_a_variable_of_settings_that_cannot_be_read_is_not_repeated(
    value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EVERLEARN_SOURCE__BROKER", "127.0.0.1:1")
    monkeypatch.setenv("EVERLEARN_SOURCE__SETTINGS", value)
    code, out, err = everlearn("run", "--events", "e", "--snapshots", "s", "--from", "end", capsys=capsys)
    assert code == 2
    assert "EVERLEARN_SOURCE__SETTINGS is not shown, because it may hold a secret; expected a table" in err
    assert "hunter2" not in out + err


def test_settings_given_in_python_are_not_repeated_either() -> None:
    with pytest.raises(ValueError, match="valid dictionary") as told:
        Config.model_validate(
            {"source": {"events": "e", "settings": "hunter2"}, "snapshots": {"folder": "s"}}
        )
    assert "hunter2" not in str(told.value)


def test_a_variable_may_hold_all_settings_of_the_broker_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "EVERLEARN_SOURCE__SETTINGS", '{"ssl_check_hostname": false, "request_timeout_ms": 31000}'
    )
    monkeypatch.setenv("EVERLEARN_SOURCE__BROKER", "127.0.0.1:1")
    found = read_config(None, {"--events": "e", "--snapshots": "s"})
    assert found.config.broker_options == {"ssl_check_hostname": False, "request_timeout_ms": 31000}


def test_the_learners_section_has_every_option_with_its_default(tmp_path: Path) -> None:
    """All but `experts`: no file holds a model."""
    options = read(tmp_path, MINIMAL).config.learner_options
    model = OnlineClassifier()
    names = set(inspect.signature(OnlineClassifier).parameters) - {"experts"}
    expected = {name: getattr(model, name) for name in names}
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}
    assert plain == {name: list(v) if isinstance(v, tuple) else v for name, v in expected.items()} | {
        "keys": []
    }
    regression = read(tmp_path, 'task = "regression"\n' + MINIMAL).config.learner_options
    assert set(regression) == set(inspect.signature(OnlineRegressor).parameters) - {"experts"}
    OnlineClassifier(**options)
    OnlineRegressor(**regression)


def test_every_option_of_run_sets_a_key_that_there_is() -> None:
    known = {path for path, _ in keys()}
    assert set(OPTIONS.values()) <= known
    assert all(field.description for _, field in keys())


# -- examples and documentation --


@pytest.mark.parametrize("name", examples())
def test_an_example_can_be_used_as_it_is(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    config = read_config(TEMPLATES / f"{name}.toml").config
    assert config.start is not None
    code, out, _ = everlearn("config", "example", name, capsys=capsys)
    assert (code, out) == (0, (TEMPLATES / f"{name}.toml").read_text(encoding="utf-8"))


def test_the_example_of_the_flights_reads_what_the_producer_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = TEMPLATES / "flights.toml"
    config = read_config(file).config
    assert (config.source.events, config.source.labels) == (EVENTS, LABELS)
    assert config.forecasts.topic == FORECASTS
    assert config.learner_options["keys"] == KEYS
    monkeypatch.chdir(tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("EVERLEARN_METRICS__PORT", str(free.getsockname()[1]))
    EmbeddedLog(tmp_path / "flights.sqlite").close()
    log = ["--log", "flights.sqlite"]
    code, _, err = everlearn("produce", "flights", *log, "--speed", "1e9", "--limit", "60", capsys=capsys)
    assert code == 0, err
    code, out, err = everlearn("run", "--config", file, *log, "--bounded", capsys=capsys)
    assert code == 0, err
    assert "finished: 60 events, " in out
    assert ", 0 records refused" in out


def test_the_examples_together_show_every_section() -> None:
    shown: set[str] = set()
    for name in examples():
        shown |= tomllib.loads((TEMPLATES / f"{name}.toml").read_text(encoding="utf-8")).keys()
    assert shown == set(Config.model_fields) - {"format", "duplicates", "memory"}


@pytest.mark.parametrize("name", examples())
def test_what_config_show_prints_is_the_same_configuration(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = everlearn("config", "show", "--config", TEMPLATES / f"{name}.toml", capsys=capsys)
    assert code == 0, err
    again = read(tmp_path, out).config
    assert again.model_dump() == read_config(TEMPLATES / f"{name}.toml").config.model_dump()


def test_config_show_says_where_each_value_came_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EVERLEARN_SOURCE__SETTINGS__SASL_PLAIN_PASSWORD", "12345678")
    code, out, err = everlearn("config", "show", "--config", written(tmp_path, BROKER), capsys=capsys)
    assert code == 0, err
    said = {line.split("#")[-2].strip() or line.split("#")[1].strip(): line.split("#")[-1].strip()
            for line in out.splitlines() if line.count("#")}  # fmt: skip
    assert said['events = "e"'] == f"file {tmp_path / 'run.toml'}"
    assert said["width = 64"] == "default"
    assert said["sasl_plain_password: **********"].startswith("environment EVERLEARN_SOURCE__SETTINGS__SASL_")
    assert "12345678" not in out


def test_an_example_that_is_not_there_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = everlearn("config", "example", "kafak", capsys=capsys)
    assert code == 2
    assert "the nearest is kafka" in err


def test_a_file_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.toml: cannot be read \(No such file"):
        read_config(tmp_path / "nothing.toml")
    with pytest.raises(ConfigError, match=r"cannot be read \(Is a directory"):
        read_config(tmp_path)


def test_the_page_of_keys_is_that_of_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    for line in reference():
        assert f"{line}\n" in text, f"{line!r} lacks; take it from: everlearn config keys --markdown"
    for path, why in {**MUST_STAY, **MAY_CHANGE}.items():
        assert f"| `{path}` | {why} |" in text
    assert sum(line.startswith("| `") for line in text.splitlines()) == (
        len(list(keys())) + len(MUST_STAY) + len(MAY_CHANGE)
    )
    assert set(OPTIONS) <= set(text.replace("`", " ").replace(",", " ").replace(".", " ").split())
    code, out, _ = everlearn("config", "keys", capsys=capsys)
    assert code == 0
    assert "source.batch: whole number; default 256" in out


def test_schema_formats_are_known_to_need_a_registry() -> None:
    assert set(WITH_REGISTRY) == {"avro", "json-schema"}
