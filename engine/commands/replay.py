"""`everlearn replay`: a recorded stretch once more, with the model as it was or with other settings."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from engine.config.config import Config
    from engine.journal import Journal
    from engine.replay import Recorded, Replayed
    from engine.side_by_side import Answers, Losses
    from engine.terminal import View
    from streams.event import Position
    from streams.protocols import Sink


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Where a replay begins and ends, and where its answers go.

    recorded: from where, and the order to follow. since: or a time. until, before: where it ends.
    answers: a file, to: a topic for answers; both None: they go nowhere. save: a file for the model.
    """

    recorded: Recorded
    since: float | None
    until: Position | None
    before: float | None
    speed: float | None = None
    answers: Path | None = None
    to: str | None = None
    save: Path | None = None


def replay_command(
    file: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="A run's configuration, as TOML.")
    ] = None,
    events: Annotated[str | None, typer.Option(metavar="TOPIC", help="Events.")] = None,
    labels: Annotated[str | None, typer.Option(metavar="TOPIC", help="Labels that come later.")] = None,
    log: Annotated[Path | None, typer.Option(metavar="FILE", help="An embedded log.")] = None,
    broker: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="host:port of a Kafka broker.")
    ] = None,
    broker_config: Annotated[
        Path | None, typer.Option("--broker-config", metavar="FILE", help="Settings for it, as TOML.")
    ] = None,
    snapshots: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Those of the run: its options and its recorded order are followed."
        ),
    ] = None,
    shard: Annotated[str, typer.Option(help="Which shard's.")] = "0",
    history: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The file that the run began with, if it did.")
    ] = None,
    start: Annotated[
        str, typer.Option("--from", metavar="beginning|TIME|SNAPSHOT", help="Where the stretch begins.")
    ] = "beginning",
    until: Annotated[
        str | None,
        typer.Option(
            metavar="TOPIC:PARTITION:OFFSET|TIME", help="In front of what it ends.  [default: the end]"
        ),
    ] = None,
    speed: Annotated[
        float | None, typer.Option(help="Times as fast as it happened; 1: as it did.  [default: full speed]")
    ] = None,
    answers: Annotated[Path | None, typer.Option(metavar="FILE", help="A new file for answers.")] = None,
    to: Annotated[str | None, typer.Option(metavar="TOPIC", help="A new topic for answers.")] = None,
    save: Annotated[Path | None, typer.Option(metavar="FILE", help="Save the model as of the end.")] = None,
    task: Annotated[
        Literal["classification", "regression"] | None,
        typer.Option(help="What labels are.  [default: the run's, or classification]"),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Such as learner.rate=0.001; may be repeated."),
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="Run it a second time with these over the others, and compare."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Figures as JSON.")] = False,
) -> None:
    """Run a recorded stretch of topics again by the code that runs live; nothing of the live run is written.

    With --snapshots records come in the order in which the run took them, and the model as of any offset comes
    out to the bit. Without, they come by event time.
    """
    from engine.attach import open_journal
    from engine.learner import warmup
    from engine.replay import ReplayError
    from engine.side_by_side import agreement, compared
    from engine.stop_signals import StopSignals
    from engine.terminal import open_view

    recorded, since = _beginning(start, snapshots, shard)
    until_position, before = _end(until)
    asked = Asked(recorded=recorded, since=since, until=until_position, before=before, speed=speed)
    asked = dataclasses.replace(asked, answers=answers, to=to, save=save)
    given = {"--events": events, "--labels": labels, "--log": log, "--broker": broker, "--task": task}
    given |= {
        "--broker-config": broker_config,
        "--from": history,
        "--snapshots": snapshots or Path("snapshots"),
    }
    config = _merged(_config(file, given, recorded), {"source.bounded": True})
    config = with_settings(config, settings or [])
    other = None if against is None else with_settings(config, against)  # both, before anything runs
    if recorded.history and not isinstance(config.start, Path):
        raise ReplayError("the run began with a file of history; give it by --history FILE")
    for text in [*(settings or []), *(against or [])] if recorded.snapshot is not None else ():
        if text.startswith(("learner.", "memory.", "task")):
            raise ReplayError(
                f"{text}: a snapshot's learner keeps its options; use --from beginning or a time"
            )
    warmup()
    view = None if as_json else open_view()
    with (
        StopSignals() as stop,
        contextlib.closing(open_journal(config)) as journal,
        contextlib.closing(view) if view is not None else contextlib.nullcontext(),
    ):
        first, losses, said = _run(asked, config, journal, view, stop)
        told = _told(first)
        if other is not None and not first.stopped:
            asked = dataclasses.replace(asked, answers=None, to=None, save=None)
            second, other_losses, other_said = _run(asked, other, journal, view, stop)
            told = {"first": told, "second": _told(second), "compared": compared(losses, other_losses)}
            told["agreement"] = agreement(said, other_said)
    if as_json:
        typer.echo(json.dumps(told, indent=1))
    else:
        for line in _lines(told):
            typer.echo(line)


def _run(
    asked: Asked, config: Config, journal: Journal, view: View | None, stop: Callable[[], bool]
) -> tuple[Replayed, Losses, Answers]:
    from engine.attach import open_shard, open_source
    from engine.replay import replay
    from engine.side_by_side import Answers, Losses
    from engine.told import Told

    losses, shard = Losses(), open_shard(config)
    source = open_source(config, journal, shard, first=False)
    with contextlib.closing(source), contextlib.closing(Answers(_sink(asked, journal))) as said:
        found = replay(
            shard,
            source,
            said,
            asked.recorded,
            since=asked.since,
            until=asked.until,
            before=asked.before,
            speed=asked.speed,
            stop=stop,
            observer=None if view is None else Told(view),
            losses=losses,
        )
    if asked.save is not None and not found.stopped:
        model: Any = found.shard.model
        model.save(asked.save)
    return found, losses, said


def _sink(asked: Asked, journal: Journal) -> Sink:
    from engine.journal import Reading
    from engine.replay import ReplayError
    from streams.lines import LinesSink, NoSink

    if asked.answers is not None and asked.to is not None:
        raise ReplayError("--answers and --to are both given; expected one of them")
    if asked.answers is not None:
        return LinesSink(asked.answers)
    if asked.to is None:
        return NoSink()
    journal.prepare([asked.to])
    sink = journal.sink(asked.to)
    source = journal.source([asked.to], Reading(bounded=True))
    with contextlib.closing(source):
        if any(source.end_offsets().values()):
            sink.close()
            raise ReplayError(f"--to {asked.to}: the topic holds records; expected a new one")
    return sink


def _beginning(start: str, snapshots: Path | None, shard: str) -> tuple[Recorded, float | None]:
    """From where, with the order that was recorded, or at which time."""
    from engine.replay import Recorded, recorded_behind, recorded_from_scratch
    from engine.times import seconds_of

    if start.endswith(".safetensors"):
        file = Path(start)
        return recorded_behind(file if file.exists() or snapshots is None else snapshots / file), None
    since = None if start == "beginning" else seconds_of(start)
    return (Recorded() if snapshots is None else recorded_from_scratch(snapshots, shard)), since


def _config(file: Path | None, given: Mapping[str, Any], recorded: Recorded) -> Config:
    """What the file and the options say, or else what the snapshot says that the run was asked."""
    from engine.config.settings import read_config

    if file is not None or not recorded.identity or given["--events"] is not None:
        return read_config(file, given).config
    known = recorded.identity
    said = {
        "--events": known["source.events"],
        "--labels": known.get("source.labels"),
        "--task": known["task"],
    }
    config = read_config(
        None, {**given, **{name: given[name] or value for name, value in said.items()}}
    ).config
    return _merged(config, {name: value for name, value in known.items() if not name.startswith("source.")})


def _end(until: str | None) -> tuple[Position | None, float | None]:
    from engine.times import seconds_of
    from streams.event import Position

    if until is None:
        return None, None
    parts = until.rsplit(":", 2)
    if len(parts) == 3 and parts[1].isdigit() and parts[2].isdigit() and not _is_time(until):
        return Position(parts[0], int(parts[1]), int(parts[2])), None
    return None, seconds_of(until)


def _is_time(text: str) -> bool:
    from engine.times import TimeError, seconds_of

    try:
        seconds_of(text)
    except TimeError:
        return False
    return True


def with_settings(config: Config, settings: Sequence[str]) -> Config:
    """The configuration with NAME=VALUE settings over it; ReplayError where one cannot be used.

    >>> from engine.config.config import Config
    >>> config = Config(source={"log": "l", "events": "orders"}, snapshots={"folder": "s"})
    >>> with_settings(config, ["learner.rate=0.001"]).learner.rate
    0.001
    """
    from engine.config.cross_checks import disagreements
    from engine.replay import ReplayError

    found: dict[str, Any] = {}
    for text in settings:
        name, sign, written = text.partition("=")
        if not sign or not name.startswith(("learner.", "labels.", "memory.", "duplicates.", "learning.")):
            raise ReplayError(
                f"{text!r} changes nothing of a replay; expected NAME=VALUE with a name of the sections learner, "
                "labels, memory, duplicates or learning, such as learner.rate=0.001"
            )
        try:
            found[name] = json.loads(written)
        except ValueError:
            found[name] = written
    merged = _merged(config, found)
    for paths, text in disagreements(merged, str):
        if found.keys() & set(paths):
            raise ReplayError(text)
    return merged


def _merged(config: Config, values: Mapping[str, Any]) -> Config:
    from pydantic import ValidationError

    from engine.config.config import Config
    from engine.replay import ReplayError

    whole: dict[str, Any] = config.model_dump(by_alias=True)
    for path, value in values.items():
        *sections, name = path.split(".")
        table = whole
        for section in sections:
            table = table.setdefault(section, {})
        table[name] = value
    try:
        return Config.model_validate(whole)
    except ValidationError as error:
        said = [_mistake(one, values) for one in error.errors(include_url=False)]
        raise ReplayError(f"{'; '.join(said)}; see `everlearn config keys`") from None


def _mistake(found: Any, values: Mapping[str, Any]) -> str:
    """What pydantic found, with the value that was given and what was expected."""
    from engine.config.errors import expected, shown
    from engine.config.settings import nearest

    path = ".".join(str(part) for part in found["loc"][:2])
    if found["type"] == "extra_forbidden":
        return f"{path} is no setting; {nearest(path)}"
    text = shown(values[path]) if path in values else "not one that can be used"
    return f"{path} is {text}; {expected(found)}"


def _told(found: Replayed) -> dict[str, Any]:
    from engine.evaluate.report import as_json

    positions = [[*partition, offset] for partition, offset in sorted(found.positions.items())]
    figures = {
        name: value for name, value in as_json(found.figures).items() if not isinstance(value, list | dict)
    }
    seconds = round(found.seconds, 3)
    return {
        "records": found.records,
        "stopped": found.stopped,
        "seconds": seconds,
        "positions": positions,
        **figures,
    }


def _lines(told: Mapping[str, Any]) -> list[str]:
    from engine.evaluate.words import number

    if "first" not in told:
        where = ", ".join(f"{topic} {n}:{offset}" for topic, n, offset in told["positions"])
        figures = [
            f"{name} {number(told[name])}"
            for name in ("accuracy", "log_loss", "kappa_temporal", "mae", "rmse")
            if told.get(name) is not None
        ]
        how = "stopped" if told["stopped"] else "replayed"
        head = f"{how} {told['records']:,} records in {told['seconds']:.1f} s, up to {where}"
        return [head, f"  {told['events']:,} labels scored: {', '.join(figures)}"]
    lines = [f"{name}: {line.strip()}" for name in ("first", "second") for line in _lines(told[name])]
    found = told["compared"]
    for name in ("loss", "wrong"):
        if found[name] is not None:
            said = f"{number(found[name]['difference'], 5)} ± {number(found[name]['half_width'], 5)}"
            lines.append(f"second − first, {name} per label: {said} (95 %, {found['labels']:,} labels)")
    equal = told["agreement"]["equal"]
    share = "–" if equal is None else f"{100 * equal:.2f} %"
    return [*lines, f"equal answers: {share} of {told['agreement']['events']:,}"]
