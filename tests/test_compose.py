"""The compose file and what it mounts: addresses, options, topics and metrics that exist, ports kept inside."""

from __future__ import annotations

import json
import os
import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from typer.main import get_command

from engine.cli import app
from engine.config.settings import read_config
from engine.demo import FORECASTS, KEYS
from engine.observe.families import FAMILIES, labels_of, sample_names
from streams.flights import EVENTS, LABELS
from streams.label_report import JoinCounts

DOCKER = Path(__file__).resolve().parent.parent / "docker"
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
ENGINE = tomllib.loads((DOCKER / "everlearn.toml").read_text(encoding="utf-8"))
DASHBOARD = json.loads((DOCKER / "grafana/dashboards/everlearn.json").read_text(encoding="utf-8"))
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
RULES = yaml.safe_load((DOCKER / "alerts.yml").read_text(encoding="utf-8"))["groups"][0]["rules"]
OPERATING = (DOCKER.parent / "docs/operating.md").read_text(encoding="utf-8")

EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel["targets"]] + [
    rule["expr"] for rule in RULES
]
METRIC = re.compile(r"\b(?:everlearn|process)_[a-z_]+\b(?!\s*\()")
PROCESS = {"process_resident_memory_bytes"}


def test_every_port_is_open_on_this_machine_alone() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == 4
    assert all(re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port) for port in ports)


def test_images_are_pinned_and_ours_is_built_from_the_dockerfile() -> None:
    for name, service in SERVICES.items():
        if service["image"] != "everlearn":
            assert re.fullmatch(r"[a-z]+/[a-z]+:v?\d+\.\d+\.\d+", service["image"]), name
    build = SERVICES["engine"]["build"]
    context = (DOCKER / build["context"]).resolve()
    assert (context / build["dockerfile"]).is_file()
    assert (context / "pyproject.toml").is_file()


def test_what_is_mounted_exists_and_what_is_depended_on_is_a_service() -> None:
    for name, service in SERVICES.items():
        for mount in service.get("volumes", []):
            source, target = mount.split(":")[:2]
            assert target.startswith("/")
            assert (DOCKER / source).exists() if source.startswith(".") else source in COMPOSE["volumes"], (
                name
            )
        for other in service.get("depends_on", []):
            assert other in SERVICES
    used = {m.split(":")[0] for s in SERVICES.values() for m in s.get("volumes", []) if not m.startswith(".")}
    assert used == set(COMPOSE["volumes"])


def arguments(name: str) -> list[str]:
    """A service's command with the defaults of its variables."""
    return [re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", word) for word in SERVICES[name]["command"]]


def test_the_producers_command_line_is_one() -> None:
    command, *rest = arguments("producer")
    found: Any = get_command(app)
    given = found.commands[command].make_context(command, rest).params
    assert given["broker"] == ENGINE["source"]["broker"]
    assert given["speed"] == 3600.0


def test_the_engine_reads_what_the_producer_writes_and_writes_to_topics_that_are_made() -> None:
    assert (ENGINE["source"]["events"], ENGINE["source"]["labels"]) == (EVENTS, LABELS)
    wanted = {EVENTS, LABELS, ENGINE["forecasts"]["topic"], ENGINE["dead"]["topic"]}
    assert ENGINE["forecasts"]["topic"] == FORECASTS
    (script,) = SERVICES["topics"]["command"]
    made = re.search(r"for topic in ([a-z. ]+);", script)
    assert made is not None
    assert set(made[1].split()) == wanted
    keys = [tuple(key) if isinstance(key, list) else key for key in ENGINE["learner"]["keys"]]
    assert keys == list(KEYS)


def test_brokers_are_addressed_by_a_listener_that_is_advertised() -> None:
    kafka = SERVICES["kafka"]["environment"]
    advertised = dict(text.split("://") for text in kafka["KAFKA_ADVERTISED_LISTENERS"].split(","))
    assert advertised == {"INSIDE": ENGINE["source"]["broker"], "OUTSIDE": "127.0.0.1:9092"}
    listening = dict(text.split("://:") for text in kafka["KAFKA_LISTENERS"].split(","))
    assert all(advertised[name].endswith(f":{listening[name]}") for name in advertised)
    protocols = dict(text.split(":") for text in kafka["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(","))
    assert set(protocols) == set(listening)
    assert ENGINE["source"]["broker"] in SERVICES["kafka"]["healthcheck"]["test"]


def test_prometheus_asks_the_engine_and_grafana_asks_prometheus() -> None:
    port = ENGINE["metrics"]["port"]
    prometheus = yaml.safe_load((DOCKER / "prometheus.yml").read_text(encoding="utf-8"))
    jobs = {job["job_name"]: job["static_configs"][0]["targets"] for job in prometheus["scrape_configs"]}
    assert jobs["everlearn"] == [f"engine:{port}"]
    assert f"127.0.0.1:{port}:{port}" in SERVICES["engine"]["ports"]
    assert SERVICES["engine"]["environment"]["EVERLEARN_HEALTH_URL"] == f"http://127.0.0.1:{port}"
    mounted = dict(mount.split(":")[:2][::-1] for mount in SERVICES["prometheus"]["volumes"])
    assert mounted["/etc/prometheus/alerts.yml"] == "./alerts.yml"
    assert prometheus["rule_files"] == ["alerts.yml"]
    (source,) = yaml.safe_load(
        (DOCKER / "grafana/provisioning/datasources/prometheus.yaml").read_text(encoding="utf-8")
    )["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert all(target["datasource"]["uid"] == source["uid"] for p in PANELS for target in p["targets"])
    (provider,) = yaml.safe_load(
        (DOCKER / "grafana/provisioning/dashboards/everlearn.yaml").read_text(encoding="utf-8")
    )["providers"]
    shown = dict(mount.split(":")[:2][::-1] for mount in SERVICES["grafana"]["volumes"])
    assert shown[provider["options"]["path"]] == "./grafana/dashboards"
    first = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert first == provider["options"]["path"] + "/everlearn.json"


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_metric_and_label_that_is_asked_for_exists(expression: str) -> None:
    names = set(METRIC.findall(expression))
    assert names or "up{" in expression
    assert names <= sample_names() | PROCESS
    assert all(expression.count(a) == expression.count(b) for a, b in ("()", "{}", "[]"))
    known = {label for family in FAMILIES for label in labels_of(family)} | {"job", "instance", "le"}
    grouped = re.findall(r"\b(?:by|on) \(([^)]*)\)", expression)
    chosen = re.findall(r"(\w+)=~?\"", expression)
    assert {label.strip() for text in grouped for label in text.split(",")} | set(chosen) <= known


def test_the_dashboard_shows_what_there_is_to_see() -> None:
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    places: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        assert 0 <= at["x"] < at["x"] + at["w"] <= 24
        cells = {(at["x"] + i, at["y"] + j) for i in range(at["w"]) for j in range(at["h"])}
        assert not cells & places, panel["title"]
        places |= cells
    for panel in PANELS:
        assert panel["title"]
        assert panel["description"].endswith(".")
        legends = " ".join(target["legendFormat"] for target in panel["targets"])
        known = {label for family in FAMILIES for label in labels_of(family)} | {"instance"}
        assert set(re.findall(r"{{(\w+)}}", legends)) <= known
    shown = set(METRIC.findall(" ".join(target["expr"] for panel in PANELS for target in panel["targets"])))
    for name in ("events", "lag_records", "answer_seconds", "log_loss", "label_delay_seconds", "expert_weight",
                 "waiting_forecasts", "snapshot_age_seconds", "snapshot_bytes", "refused_records", "rebalances",
                 "replayed_events", "join", "drifts"):  # fmt: skip
        assert any(metric.startswith(f"everlearn_{name}") or metric == f"everlearn_answered_{name}_total"
                   for metric in shown), name  # fmt: skip


def test_the_page_on_operating_names_every_metric_and_alert() -> None:
    for family in FAMILIES:
        name = family.name + ("_total" if family.kind == "counter" else "")
        labels = ", ".join(f"`{label}`" for label in labels_of(family)) or "–"
        assert f"| `{name}` | {family.kind} | {labels} | {family.help} |" in OPERATING
    for outcome in msgspec.structs.fields(JoinCounts):
        assert f"`{outcome.name}`" in OPERATING
    for rule in RULES:
        assert f"| {rule['alert']} |" in OPERATING
    for name in METRIC.findall(OPERATING):
        bare = {family.name for family in FAMILIES}
        assert name in sample_names() | bare | PROCESS, name


def test_the_engines_configuration_is_one_that_a_run_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("EVERLEARN_")]:
        monkeypatch.delenv(name)
    config = read_config(DOCKER / "everlearn.toml").config
    assert config.metrics.port == 9464
    assert set(config.topics) == {"flights.events", "flights.labels"}
