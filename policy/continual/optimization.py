"""One model's optimiser: AdamW on the parameter vector, a schedule, and averaged weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from reconverge.errors import ReconvergeError
from reconverge.options import option
from reconverge.policy.continual.ema import Ema
from reconverge.policy.continual.parameter_vector import flatten_gradients, flatten_parameters

Model = TypeVar("Model", bound=nn.Module)

BFLOAT16_UNITS = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # of torch.cpu
PRECISIONS = ("auto", "float32", "bfloat16")
SETTLED = 100.0  # updates that a settled average spans at least
SHARE = 1 / 15  # of a task's updates, where that is fewer


@dataclass(frozen=True)
class OptimizerOptions:
    """AdamW with a linear warm-up and a cosine decay to zero over the updates of one task.

    Where it is not known how many updates a task has (None), nothing decays.
    """

    learning_rate: float = option(2e-3, "peak of the learning rate, after the warm-up", at_least=0)
    warmup: int = option(50, "updates of linear warm-up at the start of each task", at_least=0)
    weight_decay: float = option(1e-6, "AdamW's weight decay", at_least=0)
    max_gradient_norm: float = option(
        1.0, "gradients are clipped to this norm (inf: no clipping)", above=0
    )
    ema_decay: float = option(
        0.999,
        "largest decay of the moving average of the weights (EMA), which is the policy",
        at_least=0,
        below=1,
    )
    precision: str = option(
        "auto",
        "precision of matrix products in training: auto: bfloat16 on processors that have it "
        "(AMX or AVX512-BF16), else float32 | float32 | bfloat16",
        choices=PRECISIONS,
    )

    def rate(self, update: int, updates: int | None) -> float:
        """Return the learning rate of update 0, 1, ..., updates - 1."""
        rate = self.learning_rate * min(1.0, (update + 1) / max(1, self.warmup))
        if updates is None:
            return rate
        return rate * 0.5 * (1.0 + math.cos(math.pi * update / updates))

    def way(self, updates: int | None) -> float:
        """Return the sum of the learning rates of a task, each times what is left of the task.

        Where its length is not known, of all that the moving average looks back on.
        """
        if updates is None:
            return self.learning_rate / (1.0 - self.ema_decay)
        return sum(self.rate(i, updates) * (1 - i / updates) for i in range(updates))


def precision_on(device: torch.device, wanted: str) -> str:
    """Return the precision of matrix products on `device`, where `wanted` may be "auto"."""
    if wanted != "auto":
        return wanted
    library = device.type == "cpu" and torch.backends.mkldnn.is_available()
    units = any(getattr(torch.cpu, name, bool)() for name in BFLOAT16_UNITS)
    return "bfloat16" if library and units else "float32"


class DivergenceError(ReconvergeError):
    """A loss or a gradient is not finite."""


class Optimization(Generic[Model]):
    """A model being trained and its exponential moving average `average`, which is the one to use.

    `begin` starts a task: both continue from the average, with a new optimiser.
    """

    def __init__(self, model: Model, options: OptimizerOptions):
        self.options = options
        self.model = model
        self._ema = Ema(model, options.ema_decay)
        self.average: Model = self._ema.network
        self.vector = flatten_parameters(model)
        self.average_vector = flatten_parameters(self.average)
        self.precision = precision_on(self.vector.device, options.precision)
        self._gradient = flatten_gradients(model)
        self.begin(updates=1)

    def products(self) -> torch.autocast:
        """Return a context that runs the network's matrix products in the chosen precision."""
        return torch.autocast(
            self.vector.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"
        )

    def begin(self, updates: int | None, settled: bool = False) -> None:
        """Start a task of so many updates, where that is known.

        `settled`: the average is a policy worth keeping, so it follows slowly from the first update
        on. What the first few updates do to earlier tasks is undone before it enters the average.
        """
        self.updates, self.update = updates, 0
        self.vector.copy_(self.average_vector)
        self._renew({})
        span = SETTLED if updates is None else min(SETTLED, SHARE * updates)
        self._ema.updates = self._ema.counter(span) if settled else 0

    def step(self, loss: Tensor) -> float:
        """Take one update down the gradient of `loss`; return its learning rate.

        Raises DivergenceError where the loss or the gradient is not finite.
        """
        self.differentiate(loss)
        return self.descend()

    def differentiate(self, loss: Tensor) -> Tensor:
        """Return the gradient [P] of `loss`, in the buffer that `descend` reads."""
        if not torch.isfinite(loss):
            raise DivergenceError(f"the loss is {loss.item()} at update {self.update}")
        self._gradient.zero_()
        loss.backward()
        return self._gradient

    def descend(self) -> float:
        """Take one update down the gradient in the buffer; return its learning rate."""
        norm = torch.linalg.vector_norm(self._gradient)
        if not torch.isfinite(norm):
            raise DivergenceError(
                f"the gradient is not finite at update {self.update}; lower the learning rate"
            )
        self._gradient.mul_((self.options.max_gradient_norm / (norm + 1e-6)).clamp(max=1.0))
        rate = self.options.rate(self.update, self.updates)
        self._adam.param_groups[0]["lr"] = rate
        self._adam.step()
        self.update += 1
        return rate

    def follow(self) -> None:
        """Move the average towards the parameters, after all that changes them in an update."""
        self._ema.update(self.model)

    def _renew(self, moments: dict[str, Tensor]) -> None:
        """Make a new optimiser of the parameter vector, with these moments (empty: none yet)."""
        self._parameter = nn.Parameter(self.vector)
        self._parameter.grad = self._gradient
        self._adam = torch.optim.AdamW(
            [self._parameter],
            lr=0.0,
            weight_decay=self.options.weight_decay,
            betas=(0.9, 0.99),
            fused=True,
        )
        if moments:
            self._adam.state[self._parameter] = moments

    def state_dict(self) -> dict[str, Tensor]:
        moments = self._adam.state.get(self._parameter, {})  # none before the first update
        state = {f"adam.{key}": value.clone() for key, value in moments.items()}
        counters = torch.tensor([self.updates or 0, self.update, self._ema.updates])
        return state | {
            "model": self.vector.clone(),
            "average": self.average_vector.clone(),
            "counters": counters,
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.average_vector.copy_(state["average"])
        updates, update, count = state["counters"].tolist()
        self.begin(updates or None)
        self.vector.copy_(state["model"])
        self.update, self._ema.updates = update, count
        self._renew(
            {key[5:]: value.clone() for key, value in state.items() if key.startswith("adam.")}
        )
