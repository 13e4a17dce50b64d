"""What an import loads: the heavy packages wait until they are needed."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "numba", "river", "pandas", "pyarrow", "sklearn", "kafka", "scipy")


def loaded_by(statement: str) -> set[str]:
    """The heavy packages that a fresh Python has loaded after a statement."""
    code = f"{statement}\nimport sys\nprint(*sorted({HEAVY!r} & sys.modules.keys()))".replace(
        f"{HEAVY!r} &", f"set({HEAVY!r}) &"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("package", ["engine", "streams", "memory", "engine.cli"])
def test_importing_a_package_loads_nothing_heavy(package: str) -> None:
    assert loaded_by(f"import {package}") == set()


def test_naming_the_version_loads_nothing_heavy() -> None:
    assert loaded_by("import engine; engine.__version__; dir(engine)") == set()


def test_the_learner_comes_from_the_package_when_it_is_asked_for() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from engine import Forecast, OnlineClassifier; print(OnlineClassifier())"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "OnlineClassifier" in done.stdout


def test_a_name_that_the_package_does_not_have_is_an_attribute_error() -> None:
    import engine

    with pytest.raises(AttributeError, match="'nothing'"):
        engine.nothing  # noqa: B018 - the access is the test
    assert set(engine.__all__) <= set(dir(engine))
    assert all(hasattr(engine, name) for name in engine.__all__)
