"""What a check found: one line of `everlearn doctor`."""

from __future__ import annotations

from typing import NamedTuple


class Finding(NamedTuple):
    """One line: what was looked at, whether it is well (None: worth knowing), what was found."""

    name: str
    well: bool | None
    text: str
