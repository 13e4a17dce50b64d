"""everlearn: learns from live data streams, one event at a time.

The learners load when they are first asked for, so that importing this package is quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.added import Expert
    from engine.forecast import Forecast
    from engine.learner import OnlineClassifier, OnlineRegressor

__version__ = "0.1.0"
__all__ = ["Expert", "Forecast", "OnlineClassifier", "OnlineRegressor", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "Expert":
        from engine.added import Expert

        return Expert
    if name == "Forecast":
        from engine.forecast import Forecast

        return Forecast
    if name in ("OnlineClassifier", "OnlineRegressor"):
        from engine import learner

        return getattr(learner, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
