"""`everlearn dlq`: looks at dead letters, and sends their records again."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from engine.deadletters.dlq import Chosen
    from engine.deadletters.refusal import Letter
    from streams.raw import RawLog

dlq = typer.Typer(help="Look at dead letters, and send their records again.", no_args_is_help=True)

Dead = Annotated[
    str | None,
    typer.Argument(metavar="TOPIC", help="The topic of dead letters.  [default: dead.topic of --config]"),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", help="The run's configuration: its log, or its broker with settings."
    ),
]
Log = Annotated[Path | None, typer.Option(metavar="FILE", help="An embedded log.")]
Broker = Annotated[str | None, typer.Option(metavar="ADDRESS", help="host:port of a Kafka broker.")]
BrokerConfig = Annotated[
    Path | None, typer.Option("--broker-config", metavar="FILE", help="Settings for it, as TOML.")
]
Reason = Annotated[str | None, typer.Option(metavar="TEXT", help="Those whose reason holds this text.")]
Since = Annotated[str | None, typer.Option(metavar="TIME", help="Those of this event time or later.")]
At = Annotated[
    list[str] | None,
    typer.Option(metavar="PARTITION:OFFSET", help="This letter, as ls names it; may be repeated."),
]
Json = Annotated[bool, typer.Option("--json", help="As JSON.")]


@dlq.command("ls")
def dlq_ls(
    topic: Dead = None,
    config: ConfigFile = None,
    log: Log = None,
    broker: Broker = None,
    broker_config: BrokerConfig = None,
    reason: Reason = None,
    since: Since = None,
    at: At = None,
    limit: Annotated[int, typer.Option(min=0, help="The newest so many of each partition; 0: none.")] = 20,
    as_json: Json = False,
) -> None:
    """Count dead letters by kind of reason, and list the newest."""
    from engine.deadletters.dlq import Retry, kinds, letters, name_of

    with _open(topic, config, log, broker, broker_config) as (raw, dead):
        _there(raw, dead)
        found = list(letters(raw, dead, _chosen(reason, since, at)))
        sent = Retry(raw, dead).sent_before()
    again = sum(name_of(letter) in sent for letter in found)
    newest: list[Letter] = []
    for number in sorted({letter.at.partition for letter in found}):
        of_one = [letter for letter in found if letter.at.partition == number]
        newest += of_one[max(0, len(of_one) - limit) :]
    if as_json:
        rows = [_row(letter) | {"retried": name_of(letter) in sent} for letter in newest]
        told = [{"count": count, "kind": kind} for count, kind in kinds(found)]
        typer.echo(
            json.dumps({"letters": len(found), "retried": again, "kinds": told, "newest": rows}, indent=1)
        )
        return
    typer.echo(f"{len(found):,} dead letters in {dead}, {again:,} of them sent again")
    for count, kind in kinds(found):
        typer.echo(f"  {count:,} × {kind}")
    for letter in newest:
        typer.echo(_line(letter, name_of(letter) in sent))


@dlq.command("retry")
def dlq_retry(
    topic: Dead = None,
    config: ConfigFile = None,
    log: Log = None,
    broker: Broker = None,
    broker_config: BrokerConfig = None,
    to: Annotated[
        str | None, typer.Option(metavar="TOPIC", help="Where to.  [default: where each came from]")
    ] = None,
    reason: Reason = None,
    since: Since = None,
    at: At = None,
    again: Annotated[bool, typer.Option("--again", help="Also those that were sent before.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent.")] = False,
    as_json: Json = False,
) -> None:
    """Send records of dead letters again: the same bytes, key and headers, once.

    They come as new records at the end of their topic: an event is answered at its new position, and a label
    finds its forecast by id, where that still waits. What was sent is remembered in TOPIC.retried.
    """
    from engine.deadletters.dlq import Retry

    with _open(topic, config, log, broker, broker_config) as (raw, dead):
        _there(raw, dead)
        if to == dead:
            raise typer.BadParameter("is the topic of the dead letters themselves", param_hint="--to")
        found = Retry(raw, dead, to=to, again=again)(_chosen(reason, since, at), dry=dry_run)
    if as_json:
        failed = [_row(letter) | {"why": why} for letter, why in found.failed]
        sent = [_row(letter) for letter in found.sent]
        told = {"sent": sent, "before": len(found.before), "failed": failed, "dry_run": dry_run}
        typer.echo(json.dumps(told, indent=1))
    else:
        if dry_run:
            for letter in found.sent:
                typer.echo(_line(letter, False))
        said = "would be sent" if dry_run else "sent"
        typer.echo(f"{len(found.sent):,} {said}, {len(found.before):,} were sent before")
        for letter, why in found.failed:
            typer.echo(f"not sent: {_line(letter, False)}: {why}", err=True)
    if found.failed:
        raise typer.Exit(2)


@contextlib.contextmanager
def _open(
    topic: str | None, config: Path | None, log: Path | None, broker: str | None, broker_config: Path | None
) -> Iterator[tuple[RawLog, str]]:
    """The log or the broker that options name, or the configuration of a run, and the topic of dead letters."""
    from engine.attach import AttachError
    from streams.broker_config import read_options
    from streams.raw import RawBroker, RawEmbedded

    if config is None:
        options = read_options(broker_config)
        if (log is None) == (broker is None):
            raise AttachError("expected one of --log FILE and --broker ADDRESS, or --config FILE")
    else:
        from engine.config.settings import read_config

        places = {"--log": log, "--broker": broker, "--broker-config": broker_config}
        asked = read_config(config, places).config
        log, broker, options = asked.source.log, asked.source.broker, asked.broker_options
        topic = topic or asked.dead.topic
    if topic is None:
        where = "" if config is None else f", and {config} has no dead.topic"
        raise AttachError(f"TOPIC is not given{where}; expected the topic of dead letters, --dead of the run")
    if log is not None and not log.is_file():
        raise AttachError(f"--log {log}: no such file; expected an embedded log")
    raw: RawLog
    if log is not None:
        raw = RawEmbedded(log)
    else:
        assert broker is not None
        raw = RawBroker(broker, options=options)
    with contextlib.closing(raw):
        yield raw, topic


def _there(raw: RawLog, dead: str) -> None:
    from streams.errors import UnknownStream

    if not raw.partitions(dead):
        raise UnknownStream(f"there is no topic {dead!r}; expected the topic that --dead of the run named")


def _chosen(reason: str | None, since: str | None, at: list[str] | None) -> Chosen:
    from engine.deadletters.dlq import Chosen
    from engine.times import seconds_of

    places = None if not at else frozenset(_place(text) for text in at)
    return Chosen(reason=reason, since=None if since is None else seconds_of(since), at=places)


def _place(text: str) -> tuple[int, int]:
    partition, _, offset = text.rpartition(":")
    try:
        return int(partition or 0), int(offset)
    except ValueError:
        raise typer.BadParameter(f"{text!r}; expected PARTITION:OFFSET", param_hint="--at") from None


def _row(letter: Letter) -> dict[str, Any]:
    topic, partition, offset = letter.position
    where = {"topic": topic, "partition": partition, "offset": offset}
    at = f"{letter.at.partition}:{letter.at.offset}"
    start = {"bytes": letter.size, "start": letter.start}
    return {"at": at, "time": letter.time, **where, **start, "reason": letter.reason}


def _line(letter: Letter, again: bool) -> str:
    from engine.times import iso

    topic, partition, offset = letter.position
    where = f"{topic} {partition}:{offset}"
    start = " ".join(letter.start.split())
    shown = start if len(start) <= 60 else start[:59] + "…"
    at = f"{letter.at.partition}:{letter.at.offset}"
    said = f"{at}  {iso(letter.time)}  {where}  {letter.size:,} bytes  {shown}"
    reason = " ".join(letter.reason.split())[:120]
    return f"{said}{'  (sent again)' if again else ''}\n      {reason}"
