"""What a continual-learning method is, and the learner that most of them are."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from policy.agent import Batch, DiffusionPolicy, WindowSource, join
from policy.diffusion import mean_square
from policy.fisher import Fisher, PerSampleLoss
from policy.optimization import Optimization, OptimizerSettings
from policy.replay import GeneratorUpdate, ReplaySource
from policy.trust_region import TrustRegion

Metrics = dict[str, float]

FISHER_BATCH = 512


class Method(Protocol):
    """Learns tasks one after another: `begin_task`, then `update` for every batch, then `end_task` to its end.

    To resume within a task, `load_state_dict` and then `begin_task(..., continued=True)`. All randomness is keyed by
    the seed, the task and the update, so that it goes on as it would have.
    """

    uses_replay: bool
    uses_fisher: bool

    @property
    def policy(self) -> DiffusionPolicy: ...  # the one that is learning, averaged
    def policy_of(self, task: int) -> DiffusionPolicy: ...  # the one to evaluate on a task
    def begin_task(self, task: int, updates: int, *, continued: bool = False) -> None: ...
    def update(self, batch: Batch) -> Metrics: ...
    def end_task(self, windows: WindowSource, last: bool) -> Iterator[GeneratorUpdate]: ...
    def state_dict(self) -> dict[str, Tensor]: ...
    def load_state_dict(self, state: dict[str, Tensor]) -> None: ...


@dataclass(frozen=True)
class Parts:
    """What a method is put together from; a method takes the parts that it needs."""

    policy: DiffusionPolicy
    optimizer: OptimizerSettings
    replay: ReplaySource | None
    replay_batch_size: int
    replay_pool: int  # windows drawn for each earlier task
    distillation_weight: float  # beta of eq. 8
    fisher: Fisher
    fisher_samples: int
    fisher_targets: str  # what the Fisher's samples are compared with: demonstrations | policy
    trust_region_strength: float  # lambda of eq. 8
    trust_region_radius: float | None  # delta of eq. 6, in place of the strength
    trust_region_average: bool  # over the past tasks, in place of their sum in eq. 8
    trust_region_recentre: bool  # around the policy before the task, in place of each past optimum in eq. 8
    trust_region_anneal: bool  # the strength falls to zero over a task
    inner_rate: float  # step size of the inner update of meta-learners
    momentum: float  # of the variance-reduced meta-gradient
    everything: Callable[[], WindowSource] | None  # windows of all tasks at once, for reference only
    seed: int


@dataclass(frozen=True)
class Denoising:
    """A batch as the denoiser sees it, and its answers: first windows of the current task, then replayed ones."""

    noisy: Float[Tensor, "B Tp Da"]
    k: Int[Tensor, " B"]
    condition: Float[Tensor, "B C"]
    target: Float[Tensor, "B Tp Da"]
    current: int

    def take(self, start: int) -> Denoising:
        """Every second window from `start` on, of the current task and of the replayed ones."""
        rows = torch.arange(len(self.k), device=self.k.device)
        index = torch.cat([rows[start : self.current : 2], rows[self.current + start :: 2]])
        parts = (self.noisy[index], self.k[index], self.condition[index], self.target[index])
        return Denoising(*parts, len(range(start, self.current, 2)))


def random_stream(device: torch.device, *key: int) -> torch.Generator:
    """A generator whose numbers depend on the key alone."""
    seed = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(seed) % 2**63)


class Learner:
    """Minimises L_t + beta sum_i L_GD,i + lambda/2 sum_i (theta - theta*_i)^T F_i (theta - theta*_i).

    arXiv 2602.02417 eq. 8. Without `replay` the second term is absent, without `trust_region` the third. Squared
    errors are means over the entries of a chunk in both of the first two terms (the paper's 1/2 is part of beta).
    The third term acts after the optimiser's step (policy.trust_region).
    """

    def __init__(self, parts: Parts, *, replay: bool, trust_region: bool):
        self._parts = parts
        self.uses_replay, self.uses_fisher = replay, trust_region
        self._replay = parts.replay if replay else None
        self._optimization = Optimization(parts.policy, parts.optimizer)
        self._region = (
            TrustRegion(
                parts.fisher.form(),
                parts.trust_region_strength,
                parts.trust_region_radius,
                average=parts.trust_region_average,
                recentre=parts.trust_region_recentre,
                anneal=parts.trust_region_anneal,
            )
            if trust_region
            else None
        )
        self._teacher = copy.deepcopy(self._optimization.average)
        self._old: Batch | None = None
        self._task = 0

    @property
    def policy(self) -> DiffusionPolicy:
        return self._optimization.average

    def policy_of(self, task: int) -> DiffusionPolicy:
        return self.policy

    def begin_task(self, task: int, updates: int, *, continued: bool = False) -> None:
        """Start `task`: a fresh optimiser, the previous policy frozen as the teacher, replay drawn."""
        self._task = task
        if not continued:
            self._optimization.begin(updates, settled=self._continues())
            self._teacher.load_state_dict(self._optimization.average.state_dict())
        self._old = self._draw_replay()

    def _continues(self) -> bool:
        """Whether the task begins from a policy worth keeping."""
        return self._task > 0

    def update(self, batch: Batch) -> Metrics:
        """One optimiser step."""
        loss, metrics = self._loss(self._prepare(batch))
        return self._finish(metrics, self._optimization.step(loss))

    def _prepare(self, batch: Batch) -> Denoising:
        """The batch and its share of replay under noise, with the teacher's answers for the replayed windows."""
        policy = self._optimization.model
        current = len(batch)
        stream = self._stream(0, self._optimization.update)
        if self._old is not None:
            batch = join([batch, self._old.sample(self._parts.replay_batch_size, stream)])
        noise, k = draw_noise(policy, batch, stream)
        noisy = policy.diffusion.add_noise(batch.actions, noise, k)
        condition = policy.condition(batch.observations, batch.task)
        target = policy.diffusion.target(batch.actions, noise, k)
        if self._old is not None:
            with torch.no_grad(), self._optimization.products():
                taught = self._teacher.network(noisy[current:], k[current:], condition[current:])
            target = torch.cat([target[:current], taught])
        return Denoising(noisy, k, condition, target, current)

    def _loss(self, part: Denoising) -> tuple[Tensor, dict[str, Tensor]]:
        """The first two terms, and what there is to log."""
        with self._optimization.products():
            output = self._optimization.model.network(part.noisy, part.k, part.condition)
        errors = mean_square(output - part.target)
        loss = errors[: part.current].mean()
        metrics = {"loss": loss.detach()}
        if self._old is not None:
            distillation = errors[part.current :].mean()
            # The mean over windows of all earlier tasks, times their number: each weighs as much as the new one.
            loss = loss + self._parts.distillation_weight * self._task * distillation
            metrics["distillation"] = distillation.detach()
        return loss, metrics

    def _finish(self, metrics: dict[str, Tensor], rate: float) -> Metrics:
        """What follows an optimiser step: the trust region and the average."""
        numbers = {name: float(value) for name, value in metrics.items()} | {"learning_rate": rate}
        if self._region is not None:
            optimization = self._optimization
            numbers |= self._region.hold(optimization.vector, rate, optimization.update, optimization.updates)
        self._optimization.follow()
        return numbers

    def end_task(self, windows: WindowSource, last: bool) -> Iterator[GeneratorUpdate]:
        """Anchor the policy just learned and prepare replay of its task; yields the generator's updates.

        Nothing is prepared after the `last` task, which none follows.
        """
        if last:
            return
        if self._region is not None:
            self._region.add(self._estimate(windows), self._optimization.average_vector)
        if self._replay is not None:
            yield from self._replay.end_task(self._task, windows, self._stream(3))

    def state_dict(self) -> dict[str, Tensor]:
        parts: dict[str, dict[str, Tensor]] = {"policy": self._optimization.state_dict()}
        parts["teacher"] = self._teacher.network.state_dict()
        if self._region is not None:
            parts["trust_region"] = self._region.state_dict()
        if self._replay is not None:
            parts["replay"] = self._replay.state_dict()
        state = {f"{part}/{key}": value for part, tensors in parts.items() for key, value in tensors.items()}
        return state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        def part(name: str) -> dict[str, Tensor]:
            prefix = f"{name}/"
            return {key[len(prefix) :]: value.to(device) for key, value in state.items() if key.startswith(prefix)}

        device = self._optimization.vector.device

        self._optimization.load_state_dict(part("policy"))
        self._teacher.network.load_state_dict(part("teacher"))
        if self._region is not None:
            self._region.load_state_dict(part("trust_region"))
        if self._replay is not None:
            self._replay.load_state_dict(part("replay"))

    def _draw_replay(self) -> Batch | None:
        if self._replay is None or self._task == 0:
            return None
        stream = self._stream(1)
        count = self._parts.replay_pool
        return join([self._replay.windows(self._teacher, i, count, stream) for i in range(self._task)])

    def _estimate(self, windows: WindowSource):
        """Fisher at the policy just learned, over windows and diffusion steps drawn uniformly (arXiv 2509.23593)."""
        policy, stream = self._optimization.average, self._stream(2)
        samples = self._parts.fisher_samples
        counts = [min(FISHER_BATCH, samples - start) for start in range(0, samples, FISHER_BATCH)]
        batches = [noisy_sample(policy, windows.sample(count, stream), stream) for count in counts]
        if self._parts.fisher_targets == "policy":
            batches = [imagined(policy, batch, stream) for batch in batches]
        parameters = dict(policy.network.named_parameters())
        return self._parts.fisher.estimate(half_squared_errors(policy), parameters, batches)

    def _stream(self, *purpose: int) -> torch.Generator:
        return random_stream(self._optimization.vector.device, self._parts.seed, self._task, *purpose)


def draw_noise(policy: DiffusionPolicy, batch: Batch, stream: torch.Generator) -> tuple[Tensor, Tensor]:
    """Noise and uniform diffusion steps for a batch."""
    k = policy.diffusion.draw_steps(len(batch), stream)
    return torch.randn(batch.actions.shape, generator=stream, device=batch.actions.device), k


@torch.no_grad()
def noisy_sample(policy: DiffusionPolicy, batch: Batch, stream: torch.Generator) -> tuple[Tensor, ...]:
    """What the denoiser sees of a batch, and its target: noisy chunks, diffusion steps, conditions, targets."""
    noise, k = draw_noise(policy, batch, stream)
    noisy = policy.diffusion.add_noise(batch.actions, noise, k)
    target = policy.diffusion.target(batch.actions, noise, k)
    return noisy, k, policy.condition(batch.observations, batch.task), target


@torch.no_grad()
def imagined(policy: DiffusionPolicy, sample: tuple[Tensor, ...], stream: torch.Generator) -> tuple[Tensor, ...]:
    """The sample with targets that the policy itself holds likely: its answers plus noise of unit variance.

    With these E[g g^T] is the Fisher proper, and the Gauss-Newton matrix; with those of the demonstrations it is the
    empirical one, which vanishes with the residuals (arXiv 1905.12558).
    """
    noisy, k, condition, _ = sample
    output = policy.network(noisy, k, condition)
    return noisy, k, condition, output + torch.randn(output.shape, generator=stream, device=output.device)


def half_squared_errors(policy: DiffusionPolicy) -> PerSampleLoss:
    """The loss of a sample as the Fisher knows it: half the summed squared error of its chunk."""
    entries = policy.action_steps * policy.action_size

    def loss(parameters: dict[str, Tensor], sample: tuple[Tensor, ...]) -> Tensor:
        noisy, k, condition, target = sample
        output = torch.func.functional_call(policy.network, parameters, (noisy, k, condition))
        return 0.5 * entries * mean_square(output - target)

    return loss
