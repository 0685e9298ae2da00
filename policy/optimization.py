"""One model's optimiser: AdamW on the flat parameter vector, a schedule, and the averaged weights that act."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from policy.choices import unknown
from policy.ema import Ema
from policy.flat import flatten_gradients, flatten_parameters

Model = TypeVar("Model", bound=nn.Module)

PRECISIONS = ("float32", "bfloat16")
SETTLED = 100.0  # updates that a settled average spans at least
SHARE = 1 / 15  # of a task's updates, where that is fewer


@dataclass(frozen=True)
class OptimizerSettings:
    """AdamW with a linear warm-up and a cosine decay to zero over the updates of one task."""

    learning_rate: float = 1e-3
    warmup: int = 50  # updates
    weight_decay: float = 1e-6
    max_gradient_norm: float = 1.0
    ema_decay: float = 0.999
    precision: str = "float32"  # of the network's matrix products; parameters, losses and averages stay float32
    keep_moments: bool = False  # of the optimiser from one task to the next, as a warm start

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise unknown("optimizer.precision", self.precision, PRECISIONS)
        if not self.max_gradient_norm > 0:
            raise ValueError(f"optimizer.max_gradient_norm={self.max_gradient_norm}: must be above 0")

    def rate(self, update: int, updates: int) -> float:
        """Learning rate of update 0, 1, ..., updates - 1."""
        warm = min(1.0, (update + 1) / max(1, self.warmup))
        return self.learning_rate * warm * 0.5 * (1.0 + math.cos(math.pi * update / updates))


class Optimization(Generic[Model]):
    """A model being trained and its exponential moving average `average`, which is the one to use.

    `begin` starts a task: both continue from the average, with new moments of the optimiser (or those kept).
    """

    def __init__(self, model: Model, settings: OptimizerSettings):
        self.settings = settings
        self.model = model
        self._ema = Ema(model, max_decay=settings.ema_decay)
        self.average: Model = self._ema.network
        self.vector, self.average_vector = flatten_parameters(model), flatten_parameters(self.average)
        self._gradient = flatten_gradients(model)
        self._renew({})
        self.begin(updates=1)

    def products(self) -> torch.autocast:
        """A context for calls of the network: their matrix products, forward and backward, in the chosen precision."""
        return torch.autocast(self.vector.device.type, torch.bfloat16, enabled=self.settings.precision == "bfloat16")

    def begin(self, updates: int, settled: bool = False) -> None:
        """Start a task. `settled`: the average is a policy worth keeping, so it follows slowly from the first update
        on: what the first few do to the earlier tasks is gone before it has become part of it."""
        self.updates, self.update = updates, 0
        self.vector.copy_(self.average_vector)
        self._renew(self._moments() if self.settings.keep_moments else {})
        self._ema.updates = self._ema.counter(min(SETTLED, SHARE * updates)) if settled else 0

    def step(self, loss: Tensor) -> float:
        """One update down the gradient of `loss`; the learning rate it took. FloatingPointError where not finite."""
        self.differentiate(loss)
        return self.descend()

    def differentiate(self, loss: Tensor) -> Tensor:
        """The gradient [P] of `loss`, in the buffer that `descend` reads. FloatingPointError for a loss not finite."""
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss.item()} at update {self.update}")
        self._gradient.zero_()
        loss.backward()
        return self._gradient

    def descend(self) -> float:
        """One update down the gradient in the buffer; the learning rate it took. FloatingPointError if not finite."""
        norm = torch.linalg.vector_norm(self._gradient)
        if not torch.isfinite(norm):
            raise FloatingPointError(f"the gradient is not finite at update {self.update}; lower the learning rate")
        self._gradient.mul_((self.settings.max_gradient_norm / (norm + 1e-6)).clamp(max=1.0))
        rate = self.settings.rate(self.update, self.updates)
        self._adam.param_groups[0]["lr"] = rate
        self._adam.step()
        self.update += 1
        return rate

    def follow(self) -> None:
        """Move the average towards the parameters; after `step` and whatever else changed them."""
        self._ema.update(self.model)

    def _moments(self) -> dict[str, Tensor]:
        """The optimiser's state; empty before its first update."""
        return dict(self._adam.state.get(self._parameter, {}))

    def _renew(self, moments: dict[str, Tensor]) -> None:
        """A new optimiser of the parameter vector, with these moments; empty: as before its first update."""
        self._parameter = nn.Parameter(self.vector)
        self._parameter.grad = self._gradient
        self._adam = torch.optim.AdamW(
            [self._parameter], lr=0.0, weight_decay=self.settings.weight_decay, betas=(0.9, 0.99), fused=True
        )
        if moments:
            self._adam.state[self._parameter] = moments

    def state_dict(self) -> dict[str, Tensor]:
        state = {f"adam.{key}": value.clone() for key, value in self._moments().items()}
        counters = torch.tensor([self.updates, self.update, self._ema.updates])
        return state | {
            "model": self.vector.clone(), "average": self.average_vector.clone(), "counters": counters
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.average_vector.copy_(state["average"])
        updates, update, count = state["counters"].tolist()
        self.begin(updates)
        self.vector.copy_(state["model"])
        self.update, self._ema.updates = update, count
        self._renew({key[5:]: value.clone() for key, value in state.items() if key.startswith("adam.")})
