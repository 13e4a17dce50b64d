"""What a learner holds, in bytes."""

from __future__ import annotations

from typing import Any


def held(model: Any) -> int | None:
    """Bytes that a learner says it keeps; None where it does not say."""
    return int(model.memory_bytes()) if hasattr(model, "memory_bytes") else None
