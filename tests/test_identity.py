"""What must not change between runs on the same snapshots is named, and told where it differs."""

from __future__ import annotations

import json

import pytest

from engine.attach import open_limits
from engine.checkpoint import CheckpointError
from engine.config.config import Config
from engine.config.identity import MAY_BEGIN, MAY_CHANGE, MUST_STAY, check_identity, identity_of
from engine.config.settings import keys
from streams.join_limits import JoinLimits

CONFIG = Config.model_validate({"source": {"log": "l", "events": "e"}, "snapshots": {"folder": "s"}})


def test_every_key_either_must_stay_or_may_change() -> None:
    for path, _ in keys():
        covering = [known for known in (*MUST_STAY, *MAY_CHANGE) if f"{path}.".startswith(f"{known}.")]
        assert len(covering) == 1, (path, covering)
    inside = [path for path in MUST_STAY if path.startswith("source.settings.")]
    assert inside == ["source.settings.isolation_level"]  # a table of which one part must stay
    assert set(MAY_BEGIN) <= set(MUST_STAY)


def test_an_identity_is_told_with_all_that_differs_and_grows_with_defaults() -> None:
    kept = identity_of(CONFIG)
    assert json.loads(json.dumps(kept)) == kept
    check_identity(kept, kept, "file")
    older = {name: value for name, value in kept.items() if not name.startswith("labels.")}
    check_identity(kept, older, "file")
    with_dead = {**kept, "dead.topic": "d", "labels.report": "r"}
    check_identity(with_dead, kept, "file")
    with pytest.raises(
        CheckpointError, match=r"dead.topic is 'd' there, asked for None; labels.report is 'r'"
    ):
        check_identity(kept, with_dead, "file")
    other = {**kept, "learner.seed": 3, "source.events": "f"}
    with pytest.raises(CheckpointError, match=r"learner.seed is 0 there, asked for 3; source.events is 'e'"):
        check_identity(other, kept, "file")


def test_the_limits_of_the_join_are_its_own_by_default() -> None:
    assert open_limits(CONFIG) == JoinLimits()


def test_which_records_of_a_broker_are_read_must_stay_and_the_rest_of_its_settings_may_change() -> None:
    asked = {"source": {"broker": "b", "events": "e"}, "snapshots": {"folder": "s"}}

    def identity(**settings: str) -> dict[str, object]:
        return identity_of(
            Config.model_validate({**asked, "source": {**asked["source"], "settings": settings}})
        )

    plain = identity()
    check_identity(plain, identity(isolation_level="read_committed", client_id="till-7"), "file")
    earlier = {name: value for name, value in plain.items() if "isolation" not in name}
    check_identity(plain, earlier, "file")
    for kept in (plain, earlier):
        with pytest.raises(
            CheckpointError, match=r"isolation_level is 'read_committed' there, asked for 'read_unc"
        ):
            check_identity(identity(isolation_level="read_uncommitted"), kept, "file")
