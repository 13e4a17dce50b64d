"""Names and labels as JSON: tuples survive, and what cannot be kept is refused by name."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np


def plain(value: Any) -> Any:
    """A NumPy scalar as Python's own; everything else as it is."""
    return value.item() if isinstance(value, np.generic) else value


def storable(what: str, value: Any) -> Any:
    """A name, label, key or id as a file gives it back: NumPy scalars as Python's own, tuples as tuples.

    TypeError says what it is ("the label") where no file can hold it. NaN is refused: it equals not even
    itself.
    """
    value = plain(value)
    if value is None or (isinstance(value, (bool, int, float, str)) and value == value):
        return value
    if isinstance(value, tuple):
        try:
            return tuple(storable(what, part) for part in value)
        except TypeError:
            pass  # the whole value is named
    raise TypeError(
        f"{what} is {value!r} of type {type(value).__name__}, which cannot be saved; "
        "expected a str, int, float (no NaN), bool or a tuple of these; convert it first"
    )


def to_json(value: Hashable) -> Any:
    """None, bool, int, float and str as they are, tuples tagged; TypeError for anything else."""
    value = plain(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, tuple):
        return {"tuple": [to_json(part) for part in value]}
    raise TypeError(
        f"{value!r} of type {type(value).__name__} cannot be saved; "
        "use str, int, float, bool, None or tuples of them as names, labels and keys"
    )


def from_json(value: Any) -> Hashable:
    """What `to_json` was given."""
    if isinstance(value, dict):
        return tuple(from_json(part) for part in value["tuple"])
    result: Hashable = value
    return result
