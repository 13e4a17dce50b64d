"""Whatever bytes stand in a topic, the loop goes on, and every record is accounted for exactly once."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.fuzz import FORMATS, account
from tests.plain_learner import PlainLearner


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("seed", [0, 1])
def test_every_fuzzed_record_is_answered_a_label_a_repeat_or_dead_once(
    name: str, seed: int, tmp_path: Path
) -> None:
    found = account(name, 1_500, PlainLearner(), tmp_path, seed)
    assert found["answered"] > 20
    assert found["repeats"] > 0
    assert found["dead"] > 500
    assert found["reasons"] > 5
