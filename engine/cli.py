"""The command line: `everlearn demo`, `run`, `replay`, `evaluate`, `compare`, `checkpoint`, `dlq`, `config`,
`doctor`, `produce`, `health`, `warmup`.

What a command needs is imported when it runs, so that `everlearn --help` is quick. What can go wrong ends in
one line on standard error and exit code 2.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from engine.commands.checkpoint import checkpoints
from engine.commands.config import configs
from engine.commands.dlq import dlq
from engine.commands.replay import replay_command
from engine.evaluate.command import evaluate
from engine.evaluate.compare import compare

app = typer.Typer(
    name="everlearn",
    help="Learns from live data streams, one event at a time.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(checkpoints, name="checkpoint", rich_help_panel=None)
app.add_typer(configs, name="config", rich_help_panel=None)
app.add_typer(dlq, name="dlq", rich_help_panel=None)
app.command()(evaluate)
app.command()(compare)
app.command("replay")(replay_command)

Broker = Annotated[str | None, typer.Option(metavar="ADDRESS", help="host:port of a Kafka broker.")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="The run's configuration, as TOML.")
]
BrokerConfig = Annotated[
    Path | None,
    typer.Option("--broker-config", metavar="FILE", help="Settings for it, security among them, as TOML."),
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of all randomness.")]


@app.command()
def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where everything goes.")] = Path("everlearn-demo"),
    whole_year: Annotated[bool, typer.Option("--all", help="All of 2013, not January and February.")] = False,
    broker: Broker = None,
    broker_config: BrokerConfig = None,
    peers: Annotated[bool, typer.Option(help="River's learners beside it.")] = True,
    seed: Seed = 0,
    limit: Annotated[int | None, typer.Option(min=1, hidden=True)] = None,
    peer: Annotated[list[str] | None, typer.Option(hidden=True)] = None,
) -> None:
    """Forecast which flights arrive late, learn hours later what happened, and report.

    Stopped at any point, the same command goes on.
    """
    from engine.demo import PEERS, Demo, run_demo
    from engine.terminal import open_view

    _of_a_broker(broker, broker_config)
    asked = Demo(
        folder=out,
        months=tuple(range(1, 13)) if whole_year else (1, 2),
        broker=broker,
        broker_config=broker_config,
        seed=seed,
        peers=(tuple(peer) if peer else PEERS) if peers else (),
        limit=limit,
    )
    run_demo(asked, open_view())


@app.command()
def run(
    config: ConfigFile = None,
    events: Annotated[
        str | None, typer.Option(metavar="TOPIC", help="Events, with or without their label.")
    ] = None,
    snapshots: Annotated[Path | None, typer.Option(metavar="DIR", help="Where snapshots are kept.")] = None,
    log: Annotated[Path | None, typer.Option(metavar="FILE", help="An embedded log.")] = None,
    broker: Broker = None,
    broker_config: BrokerConfig = None,
    labels: Annotated[str | None, typer.Option(metavar="TOPIC", help="Labels that come later.")] = None,
    forecasts: Annotated[
        str | None, typer.Option(metavar="TOPIC", help="Where answers go.  [default: EVENTS.forecasts]")
    ] = None,
    dead: Annotated[
        str | None, typer.Option(metavar="TOPIC", help="Where records go that cannot be used.")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="beginning|end|TIME|FILE",
            help="Where a first run begins; later ones go on from their snapshot.",
        ),
    ] = None,
    bounded: Annotated[bool, typer.Option("--bounded", help="End where the topics end now.")] = False,
    task: Annotated[
        Literal["classification", "regression"] | None,
        typer.Option(help="What labels are.  [default: classification]"),
    ] = None,
    keys: Annotated[
        list[str] | None,
        typer.Option("--key", metavar="FIELD", help="Names an entity; a,b for a pair; may be repeated."),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of all randomness.  [default: 0]")] = None,
    label_history: Annotated[
        bool, typer.Option("--label-history", help="Let forecasts read the labels just before.")
    ] = False,
    every_seconds: Annotated[
        float | None, typer.Option(min=0.1, help="Seconds between snapshots.  [default: 30]")
    ] = None,
    past_refused: Annotated[
        bool, typer.Option("--past-refused", help="Go on where too many records were refused.")
    ] = False,
) -> None:
    """Attach to topics: answer every event, learn every label, go on after any end.

    Everything may stand in the file of --config or in variables such as EVERLEARN_SOURCE__BROKER.
    """
    from engine.attach import attach
    from engine.config.settings import read_config
    from engine.terminal import open_view

    options = {
        "--events": events,
        "--snapshots": snapshots,
        "--log": log,
        "--broker": broker,
        "--broker-config": broker_config,
        "--labels": labels,
        "--forecasts": forecasts,
        "--dead": dead,
        "--from": start,
        "--bounded": bounded,
        "--task": task,
        "--key": [key.split(",") if "," in key else key for key in keys or []],
        "--seed": seed,
        "--label-history": label_history,
        "--every-seconds": every_seconds,
    }
    asked = read_config(config, options).config
    try:
        attach(asked, open_view(), past_refused=past_refused)
    except Exception as error:
        if "log" not in asked.model_fields_set:
            raise
        from engine.observe.logs import Logs

        known = _told(error)
        Logs(format=asked.log.format, level=asked.log.level).failed(error, known=known)
        raise SystemExit(2 if known else 1) from None


def _of_a_broker(broker: str | None, config: Path | None) -> None:
    from streams.errors import BrokerConfigError

    if config is not None and broker is None:
        raise BrokerConfigError(
            f"--broker-config {config} is given without --broker; expected both or neither"
        )


@app.command()
def doctor(
    config: ConfigFile = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="A folder to write to.")] = Path("everlearn-demo"),
    broker: Broker = None,
    broker_config: BrokerConfig = None,
) -> None:
    """Look whether everything that is needed is there; exit code 2 if something is not.

    With --config, or settings in variables: everything that this run needs. Never writes to a topic.
    """
    from engine.config.settings import given_by_environment
    from engine.doctor.examine import examine, examine_run

    if config is not None or given_by_environment():
        findings = examine_run(config, {"--broker": broker, "--broker-config": broker_config})
    else:
        _of_a_broker(broker, broker_config)
        findings = examine(out, broker, broker_config)
    ill = False
    for name, well, text in findings:
        typer.echo(f"{ {True: 'ok', False: 'NO', None: '--'}[well]:<3} {name:<17}  {text}")
        ill |= well is False
    if ill:
        raise typer.Exit(2)


@app.command()
def produce(
    stream: Annotated[Literal["flights"], typer.Argument(metavar="flights", help="What is written.")],
    broker: Broker = None,
    broker_config: BrokerConfig = None,
    log: Annotated[Path | None, typer.Option(metavar="FILE", help="An embedded log.")] = None,
    speed: Annotated[
        float, typer.Option(metavar="N", help="Seconds of the stream's time in one of the clock's.")
    ] = 3600.0,
    whole_year: Annotated[bool, typer.Option("--all", help="All of 2013, not January and February.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="End after so many events.")] = None,
) -> None:
    """Write a stream into topics as if it happened now, for `run` to learn from.

    Stopped at any point, the same command goes on.
    """
    from engine.produce import produce as replay

    _of_a_broker(broker, broker_config)
    if not 0 < speed < float("inf"):
        raise typer.BadParameter(f"{speed} is not above 0", param_hint="--speed")
    months = range(1, 13) if whole_year else (1, 2)
    replay(broker, broker_config, log, months=tuple(months), speed=speed, limit=limit, say=typer.echo)


@app.command()
def health(
    url: Annotated[str, typer.Argument(metavar="URL", help="Where a run shows its metrics.")],
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for an answer.")] = 5.0,
) -> None:
    """Ask a run whether it is well; exit code 1 if it is not, or does not answer."""
    from engine.observe.health import ask

    try:
        well, text = ask(url, timeout)
    except ValueError as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(2) from None
    typer.echo(text)
    if not well:
        raise typer.Exit(1)


SnapshotsFolder = Annotated[Path, typer.Argument(metavar="DIR", help="Where the run's snapshots are.")]
OfShard = Annotated[str, typer.Option("--shard", help="Which shard's.")]


@app.command()
def freeze(folder: SnapshotsFolder, shard: OfShard = "0") -> None:
    """Let a run answer and learn nothing, from its next records on, until it is thawed.

    Labels that come meanwhile are scored and never learned; those that wait for their turn wait on. It holds for
    runs to come too.
    """
    _switch(folder, shard, frozen=True)


@app.command()
def thaw(folder: SnapshotsFolder, shard: OfShard = "0") -> None:
    """Take back `freeze`: a run learns again from its next records on, unless its configuration freezes it."""
    _switch(folder, shard, frozen=False)


def _switch(folder: Path, shard: str, *, frozen: bool) -> None:
    from engine.checkpoint import CheckpointError, CheckpointStore
    from engine.switch import Switch

    if not CheckpointStore(folder, shard).ls():
        raise CheckpointError(
            f"{folder}: holds no snapshot of shard {shard}; expected the folder that a run was given"
        )
    Switch(folder, shard).set(frozen)
    if frozen:
        typer.echo(f"shard {shard} in {folder} is frozen from its next records on")
    else:
        typer.echo(
            f"shard {shard} in {folder} is no longer frozen from its next records on, "
            "unless its run's configuration says [learning] frozen = true"
        )


@app.command()
def warmup() -> None:
    """Compile the kernels and keep them, so that later starts are quick."""
    from engine.compiled import compiled_before
    from engine.learner import warmup as compile_kernels

    before = compiled_before()
    seconds = compile_kernels()
    typer.echo(f"kernels {'loaded' if before else 'compiled'} in {seconds:.1f} s")


def main() -> None:
    """The entry point: clear errors as one line and exit code 2, everything else as it comes."""
    try:
        app()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception as error:
        if not _told(error):
            raise
        from engine.config.errors import ConfigError

        text = str(error) if isinstance(error, ConfigError) else " ".join(str(error).split())
        print(f"Error: {text}", file=sys.stderr)
        raise SystemExit(2) from None


def _told(error: Exception) -> bool:
    """Whether an error says by itself what was found and what to do."""
    from engine.attach import AttachError
    from engine.checkpoint import CheckpointError
    from engine.config.errors import ConfigError
    from engine.deadletters.limits import TooManyRefused
    from engine.demo import DemoError
    from engine.replay import ReplayError
    from streams.errors import StreamError

    ours = AttachError | CheckpointError | ConfigError | DemoError | ReplayError | TooManyRefused
    return isinstance(error, ours | StreamError | OSError)


if __name__ == "__main__":
    main()
