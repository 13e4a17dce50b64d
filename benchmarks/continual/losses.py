"""What each baseline minimises, as functions of what a network said."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def only(out: Tensor, classes: Tensor) -> Tensor:
    """out (n, classes) with all other classes at −∞."""
    mask = torch.ones(out.shape[1], dtype=torch.bool)
    mask[classes] = False
    return out.masked_fill(mask, -torch.inf)


def er_ace(new: Tensor, y: Tensor, old: Tensor | None, y_old: Tensor | None, seen: Tensor) -> Tensor:
    """CE over the classes of the incoming batch alone, plus CE of replayed events over all classes seen.

    New classes do not push old ones away that are not among the incoming events. Caccia et al. 2022, "New
    insights on reducing abrupt representation change in online continual learning".
    """
    loss = nn.functional.cross_entropy(only(new, y.unique()), y)
    if old is not None and y_old is not None:
        loss = loss + nn.functional.cross_entropy(only(old, seen), y_old)
    return loss


def der(
    new: Tensor, y: Tensor, again: Tensor, said: Tensor, old: Tensor, y_old: Tensor, alpha: float, beta: float
) -> Tensor:
    """CE(new, y) + α · mean (again − said)² + β · CE(old, y_old).

    again, said: what the network says now and what it said when the event was kept; old: of a second draw.
    Buzzega et al. 2020, "Dark experience for general continual learning" (DER++; there the squares are summed).
    """
    matched = nn.functional.mse_loss(again, said)
    replayed = nn.functional.cross_entropy(old, y_old)
    return nn.functional.cross_entropy(new, y) + alpha * matched + beta * replayed


def project(g: Tensor, reference: Tensor) -> Tensor:
    """g where g · r ≥ 0, else g − (g · r / r · r) r: a step that does not raise the loss on kept events.

    Chaudhry et al. 2019, "Efficient lifelong learning with A-GEM".
    """
    along = torch.dot(g, reference)
    if along >= 0.0:
        return g
    return g - along / torch.dot(reference, reference) * reference


def ewc_pull(parameter: Tensor, anchor: Tensor, importance: Tensor, most: float) -> Tensor:
    """The gradient of ½ Σ_i min(F_i, most) (θ_i − θ*_i)², with `most` so that a step does not overshoot the
    anchor.

    Kirkpatrick et al. 2017, "Overcoming catastrophic forgetting in neural networks" (there without a bound).
    """
    return importance.clamp_max(most) * (parameter - anchor)
