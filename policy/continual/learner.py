"""A continual-learning method, and the learner that most of them are."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from reconverge.policy.continual.denoising import (
    Batch,
    NoisySample,
    Purpose,
    Source,
    corrupt,
    errors,
    mixture,
    random_stream,
    taught_by,
)
from reconverge.policy.continual.fisher import Fisher
from reconverge.policy.continual.optimization import Optimization, OptimizerOptions
from reconverge.policy.continual.region import TrustRegion
from reconverge.policy.continual.rehearsal import GeneratorUpdate, Replay
from reconverge.policy.model.batch import join

Metrics = dict[str, float]
DISTILLATION_MEANING = (
    "weight of the distillation loss on replayed windows; 1 is the paper's beta = 2"
)


class Method(Protocol):
    """Learns tasks in turn: `begin_task`, an `update` for every batch, `end_task` to its end.

    `end_task` comes when there is a next task, so that a sequence may always go on. To resume
    within a task or at its end, `load_state_dict` and then `begin_task(..., continued=True)`; its
    number of updates may have changed. All randomness is keyed by seed, task and update, so that it
    goes on as it would have.
    """

    @property
    def uses_replay(self) -> bool: ...
    @property
    def uses_fisher(self) -> bool: ...
    @property
    def memory_bytes(self) -> int | None: ...  # kept of past tasks; None: a reference keeps all
    @property
    def model(self) -> Any: ...  # the averaged model that is learning, a Denoiser
    def model_of(self, task: int) -> Any: ...  # the one to evaluate on a task
    def begin_task(self, task: int, updates: int, *, continued: bool = False) -> None: ...
    def update(self, batch: Batch) -> Metrics: ...
    def end_task(self, data: Source) -> Iterator[GeneratorUpdate]: ...
    def state_dict(self) -> dict[str, Tensor]: ...
    def load_state_dict(self, state: dict[str, Tensor]) -> None: ...


@dataclass(frozen=True)
class Setting:
    """The objects that every method is given; it takes those that it needs."""

    denoiser: Any  # a Denoiser with fresh weights
    optimizer: OptimizerOptions
    replay: Replay | None
    fisher: Fisher
    all_tasks: Callable[[], Source] | None  # data of all tasks at once, for reference only
    batch_size: int  # samples of the current task in an update
    tasks: int  # of the sequence
    seed: int


class Learner:
    """Minimises L_t + beta sum_i L_GD,i + (lambda/2) sum_i |theta - theta*_i|^2 in the metric F_i.

    Wang et al. 2026, arXiv 2602.02417 eq. 8. Without `replay` the second term is absent, without
    `region` the third. Squared errors are means over the entries of a sample in both of the first
    two terms (the paper's 1/2 is part of beta, `distillation_weight`). The third term acts after
    the optimiser's step.
    """

    replay_metric = "distillation"  # the name under which the loss on replayed samples is logged

    def __init__(
        self,
        setting: Setting,
        *,
        replay: Replay | None = None,
        distillation_weight: float = 1.0,
        region: TrustRegion | None = None,
    ):
        self.seed, self.replay, self.region = setting.seed, replay, region
        self.fisher = setting.fisher
        self.distillation_weight = distillation_weight
        self.optimization: Optimization = Optimization(setting.denoiser, setting.optimizer)
        self.teacher = copy.deepcopy(self.optimization.average)
        self.task = 0
        self._old: Source | None = None  # replayed samples of earlier tasks

    @property
    def uses_replay(self) -> bool:
        return self.replay is not None

    @property
    def uses_fisher(self) -> bool:
        """Whether the metric of the region is the Fisher of `fisher=`, and not its own."""
        return self.region is not None and self.region.fisher is self.fisher

    @property
    def memory_bytes(self) -> int | None:
        """Return the bytes of replay and region; the policy and its teacher do not count."""
        replay = 0 if self.replay is None else self.replay.source.memory_bytes
        return replay + (0 if self.region is None else self.region.memory_bytes)

    @property
    def model(self) -> Any:
        return self.optimization.average

    def model_of(self, task: int) -> Any:
        return self.model

    def begin_task(self, task: int, updates: int, *, continued: bool = False) -> None:
        """Start `task`: fresh optimiser, previous model frozen as the teacher, replay drawn."""
        self._begin(task, updates, continued)

    def begin_open_task(self, task: int, *, continued: bool = False) -> None:
        """Start `task` where nobody knows how many updates it will have."""
        self._begin(task, None, continued)

    def _begin(self, task: int, updates: int | None, continued: bool) -> None:
        self.task = task
        if continued:
            self.optimization.updates = updates
        else:
            self.optimization.begin(updates, settled=self.starts_from_earlier_task)
            self.teacher.load_state_dict(self.optimization.average.state_dict())
        self._old = self._draw_replay()
        if self.region is not None:
            way = self.optimization.options.way(self.optimization.updates)
            stream = self.stream(Purpose.METRIC)
            self.region.begin_task(self.teacher, self._old, stream, way, self.task)

    @property
    def starts_from_earlier_task(self) -> bool:
        return self.task > 0

    def update(self, batch: Batch) -> Metrics:
        """Take one optimiser step."""
        loss, metrics = self.loss(self.prepare(batch))
        return self.finish(metrics, self.optimization.step(loss))

    def prepare(self, batch: Batch) -> NoisySample:
        """Join the batch and its share of replay, add noise, and give replay its targets."""
        stream = self.stream(Purpose.BATCH, self.optimization.update)
        if self._old is None or self.replay is None:
            return corrupt(self.optimization.model, batch, stream)
        replayed = self._old.sample(self.replay.batch_size, stream)
        sample = corrupt(self.optimization.model, join([batch, replayed]), stream)
        return self.teach(sample, len(replayed))

    def teach(self, sample: NoisySample, replayed: int) -> NoisySample:
        """Let the teacher answer the last `replayed` samples."""
        with self.optimization.products():
            return taught_by(self.teacher, sample, replayed)

    def loss(self, sample: NoisySample) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the first two terms of the objective, and what is logged."""
        with self.optimization.products():
            error = errors(self.optimization.model, sample)
        current = len(error) - sample.taught
        loss = error[:current].mean()
        metrics = {"loss": loss.detach()}
        if sample.taught:
            replayed = error[current:].mean()
            # The mean over samples of all earlier tasks, times their number: each task weighs as
            # much as the new one.
            loss = loss + self.distillation_weight * self.task * replayed
            metrics[self.replay_metric] = replayed.detach()
        return loss, metrics

    def finish(self, metrics: dict[str, Tensor], rate: float) -> Metrics:
        """Apply the trust region after an optimiser step at `rate`, and move the average."""
        values = torch.stack(list(metrics.values())).tolist()  # one transfer from a GPU
        numbers = dict(zip(metrics, values, strict=True)) | {"learning_rate": rate}
        if self.region is not None:
            at = self.optimization
            numbers |= self.region.hold(at.vector, rate, at.update, at.updates)
        self.optimization.follow()
        return numbers

    def end_task(self, data: Source) -> Iterator[GeneratorUpdate]:
        """Anchor the model just learned and prepare replay of its task; yield generator updates."""
        if self.region is not None:
            at = self.optimization
            self.region.end_task(at.average, data, at.average_vector, self.stream(Purpose.FISHER))
        if self.replay is not None:
            yield from self.replay.source.end_task(self.task, data, self.stream(Purpose.GENERATOR))

    def state_dict(self) -> dict[str, Tensor]:
        parts: dict[str, dict[str, Tensor]] = {"policy": self.optimization.state_dict()}
        parts["teacher"] = self.teacher.network.state_dict()
        if self.region is not None:
            parts["trust_region"] = self.region.state_dict()
        if self.replay is not None:
            parts["replay"] = self.replay.source.state_dict()
        return {
            f"{part}/{key}": value
            for part, tensors in parts.items()
            for key, value in tensors.items()
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        device = self.optimization.vector.device

        def part(name: str) -> dict[str, Tensor]:
            found = {key: value for key, value in state.items() if key.startswith(f"{name}/")}
            return {key[len(name) + 1 :]: value.to(device) for key, value in found.items()}

        self.optimization.load_state_dict(part("policy"))
        self.teacher.network.load_state_dict(part("teacher"))
        if self.region is not None:
            self.region.load_state_dict(part("trust_region"))
        if self.replay is not None:
            self.replay.source.load_state_dict(part("replay"))

    def stream(self, *purpose: int) -> torch.Generator:
        """Make the random stream of a `Purpose`, then any other key, within the current task."""
        return random_stream(self.optimization.vector.device, self.seed, self.task, *purpose)

    def _draw_replay(self) -> Source | None:
        if self.replay is None or self.task == 0:
            return None
        stream, replay = self.stream(Purpose.REPLAY), self.replay
        drawn = [replay.source.draw(self.teacher, i, replay.pool, stream) for i in range(self.task)]
        return mixture(drawn)
