"""What a learner holds, in bytes."""

from __future__ import annotations

from typing import Any


def held(model: Any) -> int | None:
    """Bytes that a learner keeps: what it says itself, or the arrays of the engine's state; None if unknown."""
    if hasattr(model, "memory_bytes"):
        return int(model.memory_bytes())
    if hasattr(model, "test_then_train") and hasattr(model, "state"):
        return sum(int(part.nbytes) for part in model.state()[0].values())
    return None
