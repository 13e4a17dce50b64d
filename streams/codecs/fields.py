"""Which field of a message is what: the names under which a topic keeps id, time, features and outcome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

KEY = "$key"  # as id: the message's key
TIMESTAMP = "$timestamp"  # as time: when the log took the message
EVERY = "*"  # as features: every other field

TimeUnit: TypeAlias = Literal["s", "ms", "us", "ns", "iso"]

SCALES = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
"""Units of time per second; integers, so that a quotient of integers is rounded once."""


@dataclass(frozen=True, kw_only=True)
class FieldMap:
    """How the messages of one topic are laid out. A name with dots reaches into nested objects: "order.id".

    id: the field that names the event, text or a whole number; "$key" for the message's key.
    time: the field of the event's time; "$timestamp" for the time at which the log took the message.
    time_unit: what time counts since 1970-01-01 UTC, "s", "ms", "us" or "ns"; or "iso" for text such as
    "2013-01-01T05:00:00-05:00", which is UTC where it has no offset.
    features: "*" for every other field, or a list of names; of an object all that it holds, each under its
    dotted name. exclude: fields, or objects, that are no features.
    target: the field of the outcome; absent or null: it is not known yet, and may come as a label.
    weight: the field of how much the outcome counts; 1 where it is absent or null, or none is named.
    label: for a topic of labels, the field of the outcome; features and target have no meaning then.
    Raises ValueError where fields contradict each other.

    >>> FieldMap(id="trip.id", time="pickup_ms", time_unit="ms", target="tip", exclude=["driver"]).exclude
    ('driver',)
    >>> FieldMap(target="tip", features=["fare", "tip"])
    Traceback (most recent call last):
    ...
    ValueError: features holds 'tip', which is the target; it would tell the answer, leave it out
    """

    id: str = "id"
    time: str = "time"
    time_unit: TimeUnit = "s"
    features: str | Sequence[str] = EVERY
    exclude: Sequence[str] = ()
    target: str | None = None
    weight: str | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        for role in ("id", "time", "target", "weight", "label"):
            _name(role, getattr(self, role), optional=role in ("target", "weight", "label"))
        if self.time_unit not in get_args(TimeUnit):
            raise ValueError(
                f"time_unit is {self.time_unit!r}; expected one of {', '.join(get_args(TimeUnit))}"
            )
        if self.features != EVERY:
            object.__setattr__(self, "features", _names("features", self.features))
        object.__setattr__(self, "exclude", _names("exclude", self.exclude))
        self._agree()

    def _agree(self) -> None:
        outcome = "label" if self.label is not None else "target"
        if self.label is not None and (self.target is not None or self.features != EVERY or self.exclude):
            raise ValueError(
                "label is for a topic of labels, which has no target, features or exclude; leave them out, "
                "or name the outcome as target for a topic of events"
            )
        said = getattr(self, outcome)
        for role in ("id", "time", "weight"):
            if said is not None and getattr(self, role) == said:
                raise ValueError(f"{outcome} and {role} are both {said!r}; expected fields of their own")
        for name in self.features if self.features != EVERY else ():
            if name == self.target:
                raise ValueError(
                    f"features holds {name!r}, which is the target; it would tell the answer, leave it out"
                )
            if name in self.exclude:
                raise ValueError(f"{name!r} is in features and in exclude; leave it out of one of them")

    @property
    def names(self) -> tuple[str, ...] | None:
        """The fields that are features; None for every other one."""
        return None if self.features == EVERY else tuple(self.features)

    @property
    def roles(self) -> tuple[str, ...]:
        """The fields that are id, time, outcome and weight."""
        named = (self.id, self.time, self.target, self.label, self.weight)
        return tuple(name for name in named if name not in (None, KEY, TIMESTAMP))

    @property
    def taken(self) -> frozenset[str]:
        """What is no feature where all others are."""
        return frozenset((*self.roles, *self.exclude))


def _name(role: str, name: object, *, optional: bool = False) -> None:
    if name is None and optional:
        return
    if not isinstance(name, str) or not name:
        raise ValueError(f"{role} is {name!r}; expected the name of a field")
    if (name == KEY and role != "id") or (name == TIMESTAMP and role != "time"):
        only = "id" if name == KEY else "time"
        raise ValueError(f"{role} is {name!r}, which only {only} can be; expected the name of a field")


def _names(role: str, names: object) -> tuple[str, ...]:
    if isinstance(names, str) or not isinstance(names, Sequence):
        wanted = "'*' or a list of names" if role == "features" else "a list of names"
        raise ValueError(f"{role} is {names!r}; expected {wanted}")
    for name in names:
        _name(role, name)
    if len(set(names)) < len(names):
        twice = next(name for name in names if list(names).count(name) > 1)
        raise ValueError(f"{role} names {twice!r} twice; leave one out")
    return tuple(names)
