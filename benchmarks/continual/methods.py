"""The baselines: networks that meet each event once, in batches of ten, with what each does against "
"forgetting."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.continual.buffers import Greedy, Reservoir
from benchmarks.continual.features import Map
from benchmarks.continual.losses import der, er_ace, ewc_pull, project
from benchmarks.continual.networks import network

BATCH = 10  # new events per step, and replayed ones
ALPHA, BETA = 0.5, 0.5  # DER++
FADING = 0.95  # of online EWC's importances
EPOCHS, GDUMB_BATCH, LEAST = 10, 32, 0.01  # GDumb; the last: of the rate, at the end
GROWN = 1.02  # growth of the events after which LDA's covariance is inverted anew
BLOCK = 500


@dataclass(frozen=True)
class Setting:
    """What is chosen per method: rate (step size; LDA's shrinkage), repeats (steps per batch), strength "
    "(EWC)."""

    rate: float
    repeats: int = 1
    strength: float = 0.0


class Baseline:
    """The face that a scenario asks: forecast a batch, then learn it; the map is learned from the first events.

    Until the map is there nothing is forecast; then what was held back is learned. All classes are known
    beforehand. budget: bytes for everything that is kept.
    """

    replays = False

    def __init__(
        self, map: Map, classes: Sequence[Hashable], setting: Setting, budget: int, seed: int
    ) -> None:
        torch.set_num_threads(1)
        self.map, self.classes_, self.setting = map, tuple(classes), setting
        self.budget, self.seed = budget, seed
        self._column = {label: k for k, label in enumerate(self.classes_)}
        self._first: list[tuple[NDArray[Any], NDArray[np.int64]]] = []
        self._ready = False

    # -- what a scenario calls ------------------------------------------------------------------------------

    def test_then_train(self, X: NDArray[Any], y: Sequence[Hashable]) -> NDArray[np.float64]:
        """(n, classes): ten events are forecast, then learned, and so on."""
        labels = np.array([self._column[label] for label in y], np.int64)
        return np.concatenate(
            [self._batch(X[at : at + BATCH], labels[at : at + BATCH]) for at in range(0, len(X), BATCH)]
        )

    def predict_proba(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """(n, classes); nothing is learned."""
        if not self._ready:
            return np.zeros((len(X), len(self.classes_)))
        with torch.no_grad():
            blocks = [self.answers(self.map(X[at : at + BLOCK])) for at in range(0, len(X), BLOCK)]
        found: NDArray[np.float64] = torch.softmax(torch.cat(blocks).double(), dim=1).numpy()
        return found

    def memory_bytes(self) -> int:
        """Map, network or statistics, and kept events."""
        return self.map.memory_bytes() + self.own_bytes()

    def _batch(self, X: NDArray[Any], y: NDArray[np.int64]) -> NDArray[np.float64]:
        if self._ready:
            with torch.no_grad():
                z = self.map(X)
                said: NDArray[np.float64] = torch.softmax(self.answers(z).double(), dim=1).numpy()
            self.learn(X, z, torch.from_numpy(y))
            return said
        self._first.append((X, y))
        if sum(len(part) for part, _ in self._first) >= self.map.needs:
            if self.map.needs:
                self.map.fit(np.concatenate([part for part, _ in self._first]))
            self.start(X)
            self._ready = True
            for part, labels in self._first:
                self.learn(part, self.map(part), torch.from_numpy(labels))
            self._first = []
        return np.zeros((len(X), len(self.classes_)))

    # -- what a method says ---------------------------------------------------------------------------------

    def start(self, X: NDArray[Any]) -> None:
        """Make what the method keeps, for events such as X."""
        raise NotImplementedError

    def learn(self, X: NDArray[Any], z: Tensor, y: Tensor) -> None:
        """Learn a batch: X as it came, z what the map makes of it, y its classes."""
        raise NotImplementedError

    def answers(self, z: Tensor) -> Tensor:
        """(n, classes) scores, whose softmax is the forecast."""
        raise NotImplementedError

    def own_bytes(self) -> int:
        """What the method keeps beside the map."""
        raise NotImplementedError


class FineTuning(Baseline):
    """Steps on the cross-entropy of new events alone (SGD without momentum)."""

    def start(self, X: NDArray[Any]) -> None:
        """The network, and the parameters in order."""
        self.net = network(self.map.shape, len(self.classes_), self.seed)
        self.parameters = list(self.net.parameters())
        self.optimiser = torch.optim.SGD(self.parameters, lr=self.setting.rate)

    def answers(self, z: Tensor) -> Tensor:
        """The network's outputs."""
        out: Tensor = self.net(z)
        return out

    def learn(self, X: NDArray[Any], z: Tensor, y: Tensor) -> None:
        """One step."""
        self.step(nn.functional.cross_entropy(self.net(z), y))

    def step(self, loss: Tensor) -> None:
        """One step of the optimiser down this loss."""
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()

    def own_bytes(self) -> int:
        """The parameters."""
        return sum(p.nbytes for p in self.parameters)


class Replay(FineTuning):
    """Experience replay: cross-entropy of ten new events and ten kept ones (Chaudhry et al. 2019, "On tiny
    episodic memories in continual learning"); kept are those of a reservoir, as many as the budget has room
    for. `repeats` steps
    are made per batch, each with another draw."""

    replays = True
    outputs_kept = False

    def start(self, X: NDArray[Any]) -> None:
        """The network and the reservoir."""
        super().start(X)
        outputs = len(self.classes_) if self.outputs_kept else 0
        each = X[0].nbytes + 1 + 4 * outputs
        room = self.budget - self.map.memory_bytes() - super().own_bytes()
        if room < each:
            raise ValueError(
                f"the budget of {self.budget} bytes leaves no room to keep an event of {each} bytes"
            )
        self.kept = Reservoir(room // each, X.shape[1:], X.dtype, outputs, self.seed)

    def learn(self, X: NDArray[Any], z: Tensor, y: Tensor) -> None:
        """The steps, then the events are offered to the reservoir."""
        said = None
        if self.outputs_kept:
            with torch.no_grad():
                said = self.net(z)
        for _ in range(self.setting.repeats):
            self.replay(z, y)
        self.kept.add(X, y.numpy(), said)

    def replay(self, z: Tensor, y: Tensor) -> None:
        """One step on new and kept events."""
        if len(self.kept):
            old, y_old, _ = self.kept.draw(BATCH)
            z, y = torch.cat([z, self.map(old)]), torch.cat([y, y_old])
        self.step(nn.functional.cross_entropy(self.net(z), y))

    def own_bytes(self) -> int:
        """Parameters and reservoir."""
        return super().own_bytes() + self.kept.memory_bytes()


class AsymmetricReplay(Replay):
    """ER-ACE: as experience replay, by the loss `er_ace`."""

    def start(self, X: NDArray[Any]) -> None:
        """No class is seen yet."""
        super().start(X)
        self.seen: set[int] = set()

    def replay(self, z: Tensor, y: Tensor) -> None:
        """One step."""
        self.seen |= set(y.tolist())
        if not len(self.kept):
            self.step(er_ace(self.net(z), y, None, None, y))
            return
        old, y_old, _ = self.kept.draw(BATCH)
        out = self.net(torch.cat([z, self.map(old)]))
        self.step(er_ace(out[: len(z)], y, out[len(z) :], y_old, torch.tensor(sorted(self.seen))))


class DarkReplay(Replay):
    """DER++: kept events with what the network said of them when they came, by the loss `der`; α = β = 0.5."""

    outputs_kept = True

    def replay(self, z: Tensor, y: Tensor) -> None:
        """One step."""
        if not len(self.kept):
            self.step(nn.functional.cross_entropy(self.net(z), y))
            return
        first, _, said = self.kept.draw(BATCH)
        second, y_old, _ = self.kept.draw(BATCH)
        out = self.net(torch.cat([z, self.map(np.concatenate([first, second]))]))
        new, again, old = out.split([len(z), len(first), len(second)])
        self.step(der(new, y, again, said, old, y_old, ALPHA, BETA))


class AveragedGem(Replay):
    """A-GEM: the gradient of new events, projected by `project` where it would raise the loss of ten kept "
    "ones."""

    def replay(self, z: Tensor, y: Tensor) -> None:
        """One step."""
        loss = nn.functional.cross_entropy(self.net(z), y)
        if not len(self.kept):
            self.step(loss)
            return
        old, y_old, _ = self.kept.draw(BATCH)
        g = self._gradient(loss)
        reference = self._gradient(nn.functional.cross_entropy(self.net(self.map(old)), y_old))
        self._place(project(g, reference))
        self.optimiser.step()

    def _gradient(self, loss: Tensor) -> Tensor:
        return torch.cat([part.flatten() for part in torch.autograd.grad(loss, self.parameters)])

    def _place(self, g: Tensor) -> None:
        parts = g.split([p.numel() for p in self.parameters])
        for p, part in zip(self.parameters, parts, strict=True):
            p.grad = part.view_as(p)


class OnlineEwc(FineTuning):
    """Online EWC: weights are held near those at the last task's end, by importances that fade (`ewc_pull`, F
    times λ).

    F ← γ F + mean over the task's batches of b · g², with g a batch's mean gradient and b its size: nothing has
    to be looked at twice. It is told where tasks end. Schwarz et al. 2018, "Progress & compress".
    """

    def start(self, X: NDArray[Any]) -> None:
        """No task has ended yet."""
        super().start(X)
        self.fisher = [torch.zeros_like(p) for p in self.parameters]
        self.sums = [torch.zeros_like(p) for p in self.parameters]
        self.anchors = [p.detach().clone() for p in self.parameters]
        self.batches = 0

    def learn(self, X: NDArray[Any], z: Tensor, y: Tensor) -> None:
        """One step on the new events' loss and the penalty."""
        loss = nn.functional.cross_entropy(self.net(z), y)
        gradients = torch.autograd.grad(loss, self.parameters)
        for total, g in zip(self.sums, gradients, strict=True):
            total.add_(g.square(), alpha=len(y))
        self.batches += 1
        for p, g, anchor, f in zip(self.parameters, gradients, self.anchors, self.fisher, strict=True):
            strong = self.setting.strength * f
            p.grad = g + ewc_pull(p.detach(), anchor, strong, 1.0 / self.setting.rate)
        self.optimiser.step()

    def end_task(self) -> None:
        """A task has ended: its importances join the faded ones, the weights of now are the new anchors."""
        for f, total in zip(self.fisher, self.sums, strict=True):
            f.mul_(FADING).add_(total / max(self.batches, 1))
            total.zero_()
        self.anchors = [p.detach().clone() for p in self.parameters]
        self.batches = 0

    def own_bytes(self) -> int:
        """Parameters, anchors, importances and the task's sums."""
        return 4 * super().own_bytes()


class Dumb(FineTuning):
    """GDumb: a greedy balanced buffer, and a network trained from nothing on it alone, ten epochs, at each
    task's end.

    SGD with momentum 0.9, batches of 32, the rate falling as a cosine to a hundredth. Between task ends it
    answers by the network of the last one. Prabhu et al. 2020, "GDumb: a simple approach that questions our
    progress".
    """

    def start(self, X: NDArray[Any]) -> None:
        """The buffer, as large as the budget has room for beside a network."""
        super().start(X)
        room = self.budget - self.map.memory_bytes() - super().own_bytes()
        each = X[0].nbytes + 1
        if room < each:
            raise ValueError(
                f"the budget of {self.budget} bytes leaves no room to keep an event of {each} bytes"
            )
        self.kept = Greedy(room // each, X.shape[1:], X.dtype, self.seed)

    def learn(self, X: NDArray[Any], z: Tensor, y: Tensor) -> None:
        """Offer the events to the buffer."""
        self.kept.add(X, y.numpy())

    def end_task(self) -> None:
        """Train a network on what is kept."""
        X, y = self.kept.all()
        with torch.no_grad():
            z = torch.cat([self.map(X[at : at + BLOCK]) for at in range(0, len(X), BLOCK)])
        labels = torch.from_numpy(y)
        self.net = network(self.map.shape, len(self.classes_), self.seed)
        self.parameters = list(self.net.parameters())
        self.optimiser = torch.optim.SGD(self.parameters, lr=self.setting.rate, momentum=0.9)
        random = torch.Generator().manual_seed(self.seed)
        steps = EPOCHS * math.ceil(len(z) / GDUMB_BATCH)
        done = 0
        for _ in range(EPOCHS):
            for at in torch.randperm(len(z), generator=random).split(GDUMB_BATCH):
                share = LEAST + (1.0 - LEAST) * 0.5 * (1.0 + math.cos(math.pi * done / steps))
                self.optimiser.param_groups[0]["lr"] = self.setting.rate * share
                self.step(nn.functional.cross_entropy(self.net(z[at]), labels[at]))
                done += 1

    def own_bytes(self) -> int:
        """Parameters and buffer; momentum is there only while it trains."""
        return super().own_bytes() + self.kept.memory_bytes()


class StreamingLda(Baseline):
    """Streaming linear discriminant analysis: class means and one covariance for all, no gradient.

    Λ = ((1 − ε) Σ + ε I)⁻¹ with Σ the covariance within classes, anew when events have grown by 2 %; score of
    class c: μ_c · Λ x − ½ μ_c · Λ μ_c. ε is the setting's rate. Hayes and Kanan 2020, "Lifelong machine
    learning with deep streaming linear discriminant analysis".
    """

    def start(self, X: NDArray[Any]) -> None:
        """Sums, all 0."""
        d, classes = self.map.shape[0], len(self.classes_)
        self.products = torch.zeros(d, d)
        self.sums, self.counts = torch.zeros(classes, d), torch.zeros(classes)
        self.inverse = torch.eye(d)
        self.inverted_at = 0.0

    def learn(self, X: NDArray[Any], z: Tensor, y: Tensor) -> None:
        """Add the events to the sums."""
        self.products.addmm_(z.T, z)
        self.sums.index_add_(0, y, z)
        self.counts.index_add_(0, y, torch.ones(len(y)))
        if float(self.counts.sum()) >= GROWN * self.inverted_at:
            self.invert()

    def invert(self) -> None:
        """Λ from the sums of now."""
        n = self.counts.sum()
        seen = self.counts > 0
        means = self.sums[seen] / self.counts[seen, None]
        within = (self.products - means.T @ self.sums[seen]) / n
        epsilon = self.setting.rate
        d = len(within)
        mixed = (1.0 - epsilon) * within + epsilon * torch.eye(d)
        self.inverse = torch.cholesky_inverse(torch.linalg.cholesky(mixed))
        self.inverted_at = float(n)

    def answers(self, z: Tensor) -> Tensor:
        """Scores of the classes seen; −∞ for others."""
        means = self.sums / self.counts[:, None].clamp_min(1.0)
        weights = means @ self.inverse
        scores = z @ weights.T - 0.5 * (weights * means).sum(dim=1)
        return scores.masked_fill(self.counts == 0, -torch.inf)

    def own_bytes(self) -> int:
        """Products, their inverse, sums and counts."""
        return sum(t.nbytes for t in (self.products, self.inverse, self.sums, self.counts))


METHODS: dict[str, type[Baseline]] = {
    "fine-tuning": FineTuning,
    "ER": Replay,
    "ER-ACE": AsymmetricReplay,
    "DER++": DarkReplay,
    "A-GEM": AveragedGem,
    "online EWC": OnlineEwc,
    "GDumb": Dumb,
    "streaming LDA": StreamingLda,
}
RATES = (0.01, 0.03, 0.1)
SETTINGS: dict[str, tuple[Setting, ...]] = {
    "fine-tuning": tuple(Setting(rate) for rate in RATES),
    "ER": tuple(Setting(rate, repeats) for repeats in (1, 4) for rate in RATES),
    "ER-ACE": tuple(Setting(rate, repeats) for repeats in (1, 4) for rate in RATES),
    "DER++": tuple(Setting(rate, repeats) for repeats in (1, 4) for rate in RATES),
    "A-GEM": tuple(Setting(rate) for rate in RATES),
    "online EWC": tuple(Setting(rate, strength=strength) for strength in (10.0, 1_000.0) for rate in RATES),
    "GDumb": tuple(Setting(rate) for rate in RATES),
    "streaming LDA": tuple(Setting(epsilon) for epsilon in (1e-4, 1e-3, 1e-2)),
}
