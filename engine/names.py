"""Names and labels as JSON: tuples survive, and what cannot be kept is refused by name."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np


def plain(value: Any) -> Any:
    """A NumPy scalar as Python's own; everything else as it is."""
    return value.item() if isinstance(value, np.generic) else value


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
