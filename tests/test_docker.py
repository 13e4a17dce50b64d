"""The image's recipe: sources that exist, the lock's versions, a user without rights, a small context."""

from __future__ import annotations

import fnmatch
import json
import os
import platform
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "docker/Dockerfile").read_text(encoding="utf-8")


def instructions() -> list[tuple[str, str]]:
    """(INSTRUCTION, the rest) of the Dockerfile, continued lines joined, comments left out."""
    lines = [line for line in TEXT.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [
        (name, " ".join(rest.split()))
        for name, rest in (line.split(maxsplit=1) for line in joined.splitlines())
    ]


def copied() -> list[str]:
    """What COPY takes from the project."""
    found: list[str] = []
    for name, rest in instructions():
        if name == "COPY" and "--from=" not in rest:
            found += rest.split()[:-1]
    return found


def sent_to_the_builder(path: str) -> bool:
    """Whether .dockerignore lets a path through: the last pattern that fits it or a folder above decides."""
    above = ["/".join(path.split("/")[: n + 1]) for n in range(len(path.split("/")))]
    sent = True
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        pattern = line.strip().lstrip("!")
        if not pattern or pattern.startswith("#"):
            continue
        if pattern.startswith("**/"):
            fits = any(fnmatch.fnmatchcase(part.rsplit("/", 1)[-1], pattern[3:]) for part in above)
        else:
            fits = any(p.count("/") == pattern.count("/") and fnmatch.fnmatchcase(p, pattern) for p in above)
        if fits:
            sent = line.strip().startswith("!")
    return sent


def test_everything_that_is_copied_exists_and_reaches_the_builder() -> None:
    assert copied()
    for source in copied():
        assert (ROOT / source).exists(), source
        assert sent_to_the_builder(source), source
    assert sent_to_the_builder("engine/evaluate/assets/report.css")


@pytest.mark.parametrize(
    "path",
    [".git/config", ".venv/bin/python", "tests/test_docker.py", "examples/data/parcels.csv", "docs/tour.md",
     "everlearn-demo/log.sqlite", "scratch/data.parquet", "benchmarks/flights.py", "engine/__pycache__/cli.pyc"],
)  # fmt: skip
def test_what_the_image_does_not_need_stays_out_of_the_builder(path: str) -> None:
    assert not sent_to_the_builder(path)


def test_the_wheel_can_be_built_from_what_is_copied(tmp_path: Path) -> None:
    for source in copied():
        target = tmp_path / source
        if (ROOT / source).is_dir():
            for file in (ROOT / source).rglob("*"):
                if file.is_file() and sent_to_the_builder(str(file.relative_to(ROOT))):
                    at = tmp_path / file.relative_to(ROOT)
                    at.parent.mkdir(parents=True, exist_ok=True)
                    at.write_bytes(file.read_bytes())
        else:
            target.write_bytes((ROOT / source).read_bytes())
    done = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path / "w"),
         str(tmp_path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert list((tmp_path / "w").glob("everlearn-*.whl"))


def test_every_package_is_installed_at_the_version_of_the_lock() -> None:
    installs = [rest for name, rest in instructions() if name == "RUN" and "pip install" in rest]
    assert len(installs) == 4
    torch, needed, builder, wheel = installs
    assert "\"$(grep '^torch==' requirements.lock)\"" in torch
    assert '--index-url "$TORCH_INDEX"' in torch
    assert "--constraint requirements.lock --requirement wanted.txt" in needed
    assert "--constraint requirements.lock hatchling" in builder
    assert "--no-deps wheels/*.whl" in wheel
    assert any(
        name == "RUN" and "pip wheel --no-deps --no-build-isolation" in rest for name, rest in instructions()
    )


def test_the_lock_pins_all_that_the_packages_and_their_needs_ask_for() -> None:
    """Follows the dependencies through the installed packages' own metadata."""
    from importlib.metadata import requires

    pinned = {}
    for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").split():
        name, version = line.split("==")
        pinned[re.sub(r"[-_.]+", "-", name).lower()] = Version(version)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    left, seen = [Requirement(text) for text in [*project["dependencies"], "hatchling"]], set()
    while left:
        wanted = left.pop()
        name = re.sub(r"[-_.]+", "-", wanted.name).lower()
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        assert name in pinned, f"{wanted} is not in the lock"
        assert wanted.specifier.contains(pinned[name], prereleases=True), f"{wanted}, pinned {pinned[name]}"
        if name not in seen:
            seen.add(name)
            left += [Requirement(text) for text in requires(wanted.name) or []]
    assert len(seen) > 20


def test_the_list_of_what_is_wanted_is_the_projects(tmp_path: Path) -> None:
    (line,) = [rest for name, rest in instructions() if name == "RUN" and "tomllib" in rest]
    program = shlex.split(line)[2]
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert done.stdout.splitlines() == project["dependencies"]


def test_the_container_runs_as_a_user_without_rights_that_owns_what_it_writes() -> None:
    last = [rest for name, rest in instructions() if name == "USER"][-1]
    assert last not in ("root", "0")
    (made,) = [rest for name, rest in instructions() if name == "RUN" and "useradd" in rest]
    assert f"--owner {last} --group {last} /data" in made
    order = [name + " " + rest for name, rest in instructions()]
    assert order.index(f"USER {last}") < order.index("RUN everlearn warmup")


def test_the_kernels_are_compiled_into_the_image_and_the_demo_is_what_it_runs() -> None:
    found = instructions()
    assert ("RUN", "everlearn warmup") in found
    (environment,) = [rest for name, rest in found if name == "ENV" and "EVERLEARN_CACHE" in rest]
    assert "EVERLEARN_CACHE=/var/cache/everlearn" in environment
    assert json.loads(dict(found)["ENTRYPOINT"]) == ["everlearn"]
    assert json.loads(dict(found)["CMD"]) == ["demo"]
    assert sum(name == "FROM" for name, _ in found) == 2


def test_the_image_asks_a_run_for_its_health_where_an_address_is_given() -> None:
    (check,) = [rest for name, rest in instructions() if name == "HEALTHCHECK"]
    command = check.split(" CMD ")[1]
    asked = command.replace("everlearn health", "echo asked")
    for url, expected in {"": "", "http://127.0.0.1:9464": "asked http://127.0.0.1:9464\n"}.items():
        done = subprocess.run(
            ["/bin/sh", "-c", asked],
            env={**os.environ, "EVERLEARN_HEALTH_URL": url},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout == expected


def test_kernels_of_the_image_are_kept_under_its_cpu_and_not_that_of_the_machine_that_built_it() -> None:
    (environment,) = [rest for name, rest in instructions() if name == "ENV" and "NUMBA_CPU_NAME" in rest]
    assert 'NUMBA_CPU_NAME=$KERNEL_CPU NUMBA_CPU_FEATURES=""' in environment
    cpu = "generic"
    if platform.machine() == "x86_64":
        (cpu,) = [
            rest.split("=")[1] for name, rest in instructions() if name == "ARG" and "KERNEL_CPU" in rest
        ]
    code = (
        "from numba.core.registry import cpu_target; "
        "print(*cpu_target.target_context.codegen().magic_tuple()[1:], sep='|')"
    )
    settings = {**os.environ, "NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], env=settings, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == f"{cpu}|"
