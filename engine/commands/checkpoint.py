"""The commands `everlearn checkpoint ls`, `inspect`, `verify` and `rollback`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from engine.checkpoint.store import CheckpointStore, Entry

checkpoints = typer.Typer(
    help="Look at snapshots and saved models, go back to an older one.", no_args_is_help=True
)

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A folder of snapshots.")]
Target = Annotated[Path, typer.Argument(metavar="PATH", help="A file, or a folder of snapshots.")]
Shard = Annotated[
    str | None, typer.Option(metavar="NAME", help="Which shard's; needed where there are several.")
]
Json = Annotated[bool, typer.Option("--json", help="As JSON.")]


@checkpoints.command("ls")
def ls(folder: Folder, shard: Shard = None, as_json: Json = False) -> None:
    """List the snapshots in DIR, oldest first: the time of each file, what was learned, where it stands.

    A snapshot holds no time: that of a copy may be the copy's.
    """
    from engine.checkpoint import CheckpointError, CheckpointStore
    from engine.checkpoint.store import shards

    _a_folder(folder)
    names = shards(folder) if shard is None else [shard]
    rows = [row for name in names for row in _rows(CheckpointStore(folder, name))]
    if not rows:
        raise CheckpointError(f"{folder}: holds no snapshot" + (f" of shard {shard}" if shard else ""))
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    for row in rows:
        typer.echo("  ".join([row["file"], *_told(row)]))


def _rows(store: CheckpointStore) -> list[dict[str, Any]]:
    return [_row(store.shard, entry) for entry in store.ls()]


def _row(shard: str, entry: Entry) -> dict[str, Any]:
    """What is known of a snapshot without reading all of it; `error` says why it is less."""
    from engine.checkpoint import CheckpointError, peek

    row: dict[str, Any] = {
        "file": entry.path.name,
        "shard": shard,
        "generation": entry.generation,
        "sequence": entry.sequence,
        "written": datetime.fromtimestamp(entry.written, UTC).isoformat(timespec="seconds"),
        "bytes": entry.bytes,
    }
    try:
        return row | _progress(peek(entry.path))
    except CheckpointError as error:
        return row | {"error": str(error)}


def _progress(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Events, labels learned and positions of a run's snapshot; nothing of another checkpoint."""
    shard, positions = meta.get("shard"), meta.get("positions")
    if not isinstance(shard, dict) or not isinstance(positions, list):
        return {}
    counts = shard.get("counts", {})
    return {"events": counts.get("events"), "learned": counts.get("learned"), "positions": positions}


def _told(row: Mapping[str, Any]) -> list[str]:
    told = [f"shard {row['shard']}", f"generation {row['generation']}", f"sequence {row['sequence']}"]
    told += [f"file of {row['written']}", f"{row['bytes']:,} bytes"]
    if "error" in row:
        told.append(f"damaged: {row['error']}")
    if "positions" in row:
        told += [f"{row['events']:,} events", f"{row['learned']:,} labels learned"]
        told += [f"{topic}-{partition} at {offset}" for topic, partition, offset in row["positions"]]
    return told


@checkpoints.command("inspect")
def inspect(path: Target, shard: Shard = None) -> None:
    """Show as JSON what a file holds, of a folder its newest whole one: arrays, and where the run stood."""
    from engine.checkpoint import Snapshot, read
    from engine.checkpoint.contents import up_to_date

    if path.is_dir():
        path = _newest(path, shard)
    arrays, meta = read(path)
    shown: dict[str, Any] = {name: value for name, value in meta.items() if name != "shard"}
    if "positions" in meta and "shard" in meta:
        now = up_to_date(Snapshot(path, 0, 0, arrays, meta))
        run = now.meta["shard"]
        shown |= {
            "counts": run["counts"],
            "join": run["join"]["counts"],
            "waiting": len(now.arrays["join/since"]),
        }
    layout = {name: [str(array.dtype), list(array.shape)] for name, array in sorted(arrays.items())}
    about = {"file": path.name, "bytes": path.stat().st_size}
    typer.echo(json.dumps({**about, **shown, "arrays": layout}, indent=1))


def _newest(folder: Path, shard: str | None) -> Path:
    """The newest whole snapshot of the one shard that is meant; what is damaged is told."""
    from engine.checkpoint import CheckpointError, CheckpointStore

    store = CheckpointStore(folder, _shard(folder, shard))
    latest = store.latest()
    if latest is None:
        raise CheckpointError(f"{folder}: holds no snapshot of shard {store.shard}")
    _passed_over(store.damaged)
    return latest.path


def _passed_over(damaged: list[tuple[Path, str]]) -> None:
    for _, reason in damaged:
        typer.echo(f"Passed over: {reason}", err=True)


def _shard(folder: Path, asked: str | None) -> str:
    """The shard that was asked for, or the only one."""
    from engine.checkpoint import CheckpointError
    from engine.checkpoint.store import shards

    if asked is not None:
        return asked
    there = shards(folder)
    if len(there) > 1:
        raise CheckpointError(f"{folder}: holds snapshots of shards {', '.join(there)}; use --shard")
    return there[0] if there else "0"


@checkpoints.command("verify")
def verify(path: Target) -> None:
    """Read every byte and compare with its checksum; exit code 2 if one is damaged."""
    from engine.checkpoint import CheckpointError, read

    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    if not files:
        raise CheckpointError(f"{path}: holds no snapshot")
    damaged = 0
    for file in files:
        try:
            read(file)
            typer.echo(f"{file.name}: whole")
        except CheckpointError as error:
            typer.echo(f"Error: {error}", err=True)
            damaged += 1
    if damaged:
        raise typer.Exit(2)


@checkpoints.command("rollback")
def rollback(
    folder: Folder,
    to: Annotated[str, typer.Option(metavar="SEQUENCE|FILE", help="The snapshot to go back to.")],
    shard: Shard = None,
    positions: Annotated[
        Literal["kept", "latest"],
        typer.Option(help="kept: learn again what came after it; latest: leave that out."),
    ] = "kept",
) -> None:
    """Make an older snapshot the one that the next run goes on from; newer ones stay.

    It is written anew as the first of a new generation, so that a run that is alive must stop.
    """
    from engine.checkpoint.rollback import roll_back

    _a_folder(folder)
    done = roll_back(folder, _shard(folder, shard), to, positions)
    _passed_over(done.damaged)
    progress = _progress(done.meta)
    typer.echo(f"{done.entry.path.name} is now the newest; it holds what {done.source.name} holds")
    at = ", ".join(f"{topic}-{partition} at {offset}" for topic, partition, offset in progress["positions"])
    where = (
        "the records after it are learned again" if positions == "kept" else "of the newest snapshot before"
    )
    typer.echo(f"positions {positions}, {where}: {at}")
    typer.echo(f"a run that is alive must stop: generation {done.entry.generation} has taken the shard over")
    if done.newer:
        names = ", ".join(entry.path.name for entry in done.newer)
        typer.echo(f"newer snapshots stay until later ones take their place: {names}")


def _a_folder(path: Path) -> None:
    from engine.checkpoint import CheckpointError

    if path.exists() and not path.is_dir():
        raise CheckpointError(f"{path}: is a file; expected a folder of snapshots")
