"""Tasks that nobody announces: a boundary is found where the loss on new samples jumps."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from reconverge.errors import ReconvergeError
from reconverge.policy.continual.denoising import Purpose, Source
from reconverge.policy.continual.learner import Learner, Method, Metrics, Setting
from reconverge.policy.continual.rehearsal import GeneratedReplay, GeneratorUpdate
from reconverge.policy.model.batch import Batch, join

SETTLING = 100  # updates of a segment that only teach what its loss is like
SPAN = 50.0  # updates over which mean and spread of the loss are averaged
DRIFT = 2.0  # standard deviations above the mean that are no surprise
ALARM = 6.0  # sum of those beyond them that is a boundary
LEAST_SPREAD = 0.05  # standard deviation of the logarithm of the loss
LATEST = 10  # updates whose samples may already be of the next task when it is noticed
CAPACITY = 16384  # windows of a segment that are kept until it ends
PARTS = tuple(spec.name for spec in fields(Batch))


class JumpDetector:
    """Page's one-sided cumulative sum of surprises (Page 1954, Biometrika 41).

    A surprise is how far the logarithm of a loss lies above its mean so far, in standard
    deviations, less `DRIFT`; the sum never falls below 0. What surprises enters mean and spread no
    further than `DRIFT`.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything: another task begins."""
        self.seen, self.mean, self.variance, self.sum = 0, 0.0, 0.0, 0.0

    def jumped(self, loss: float) -> bool:
        """Take in the loss of an update; return whether it reveals a boundary."""
        value = math.log(max(loss, 1e-30))
        spread = max(math.sqrt(self.variance), LEAST_SPREAD)
        away = (value - self.mean) / spread
        if self.seen >= SETTLING:
            self.sum = max(0.0, self.sum + away - DRIFT)
            value = min(value, self.mean + DRIFT * spread)
        self.seen += 1
        weight = max(1 / self.seen, 1 / SPAN)
        change = value - self.mean
        self.mean += weight * change
        self.variance = (1 - weight) * (self.variance + weight * change**2)
        return self.sum > ALARM

    def state_dict(self) -> dict[str, Tensor]:
        numbers = [self.seen, self.mean, self.variance, self.sum]
        return {"detector": torch.tensor(numbers, dtype=torch.float64)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        seen, self.mean, self.variance, self.sum = state["detector"].tolist()
        self.seen = int(seen)


class Reservoir:
    """An even choice of all windows that were added (algorithm R of Vitter 1985, ACM TOMS 11)."""

    def __init__(self, capacity: int):
        self.capacity, self.added = capacity, 0
        self.kept: Batch | None = None

    def add(self, batch: Batch, stream: torch.Generator) -> None:
        """Add a batch, each window in place of a random one once all places are taken."""
        room = max(0, self.capacity - self.added)
        if room:
            held = [] if self.kept is None else [self.kept]
            self.kept = join([*held, _rows(batch, slice(room))])
        late = _rows(batch, slice(room, None))
        if len(late):
            self._exchange(late, self.added + min(room, len(batch)), stream)
        self.added += len(batch)

    def _exchange(self, batch: Batch, before: int, stream: torch.Generator) -> None:
        """Put windows that come after `before` others in places drawn at random, or nowhere."""
        number = torch.arange(len(batch), device=stream.device)
        drawn = torch.rand(len(batch), generator=stream, device=stream.device, dtype=torch.float64)
        place = (drawn * (before + number + 1)).long()
        taken = place < self.capacity
        newest = torch.full((self.capacity,), -1, device=stream.device)
        newest.scatter_reduce_(0, place[taken], number[taken], "amax")
        for name in PARTS:
            getattr(self.kept, name)[newest >= 0] = getattr(batch, name)[newest[newest >= 0]]


def _rows(batch: Batch, rows: slice) -> Batch:
    return Batch(*(getattr(batch, name)[rows] for name in PARTS))


class Detecting:
    """Learns a stream of samples as tasks that it finds by itself, its segments.

    The inner learner is told of the boundaries found here, and of nothing else: neither which task
    a sample is of nor how many updates a task has, so that its learning rate, once warm, and its
    penalty stay as they are, and the averaged weights do what a decay would. After an update in
    which a boundary is `noticed`, `end_segment` ends the segment, with what it kept of its own
    windows in place of the task's demonstrations, and begins the next.
    """

    def __init__(self, learner: Method, setting: Setting):
        if setting.denoiser.pixels:
            raise ReconvergeError(
                "boundaries=detected: the pictures of a task's windows do not fit into memory; "
                "choose a frozen encoder, such as encoder=efficientnet_lite0"
            )
        if type(learner) is not Learner:
            raise ReconvergeError(
                "boundaries=detected: this method is not made for it; choose method=finetune, l2, "
                "ewc, online_ewc, mas, replay or trust_region, or boundaries=told"
            )
        if learner.replay and not isinstance(learner.replay.source, GeneratedReplay):
            raise ReconvergeError(
                "boundaries=detected: replay must know no tasks; choose replay=generator, or a "
                "method without replay"
            )
        if setting.denoiser.tells_tasks_apart:
            raise ReconvergeError(
                "boundaries=detected: something tells the policy which task it sees; add "
                "task_conditioning=none, and choose tasks whose declared bounds are the same, such "
                "as those of Meta-World but soccer (env=cw10)"
            )
        self.learner = learner
        # No more than have a row, and a place in the generator's batches.
        self.most = min(len(setting.denoiser.normalizer.is_set), setting.batch_size)
        self.noticed = False  # a boundary, in the last update
        self.detector = JumpDetector()
        self.segment, self.updates = 0, 0
        self._begin_segment()

    def _begin_segment(self) -> None:
        self.detector.reset()
        self._kept = Reservoir(CAPACITY)
        self._latest: deque[Batch] = deque()

    @property
    def uses_replay(self) -> bool:
        return self.learner.uses_replay

    @property
    def uses_fisher(self) -> bool:
        return self.learner.uses_fisher

    @property
    def memory_bytes(self) -> int | None:
        """Return the bytes of the learner's memory, and of the samples kept of this segment."""
        held = sum(tensor.nbytes for tensor in self._windows().values())
        return (self.learner.memory_bytes or 0) + held

    @property
    def model(self) -> Any:
        return self.learner.model

    def model_of(self, task: int) -> Any:
        return self.learner.model

    def begin_task(self, task: int, updates: int, *, continued: bool = False) -> None:
        """Begin the stream, or go on within it; that a task begins is not heard."""
        if continued:
            self.learner.begin_open_task(self.segment, continued=True)
        elif not self.updates:
            self.learner.begin_open_task(0)

    def update(self, batch: Batch) -> Metrics:
        """Take one optimiser step."""
        batch = replace(batch, task=torch.full_like(batch.task, self.segment))
        metrics = self.learner.update(batch)
        self.updates += 1
        jumped = self.detector.jumped(metrics["loss"])
        self.noticed = jumped and self.segment + 1 < self.most
        if not self.noticed and (self.learner.replay or self.learner.region):
            self._keep(batch)
        return metrics | {"surprise": self.detector.sum}

    def end_task(self, data: Source) -> Iterator[GeneratorUpdate]:
        """Do nothing: that a task ends is not heard."""
        return iter(())

    def _keep(self, batch: Batch) -> None:
        """Keep samples, once it is sure that they are no other task's."""
        self._latest.append(batch)
        if len(self._latest) > LATEST:
            stream = self.learner.stream(Purpose.SEGMENT, self.updates)
            self._kept.add(self._latest.popleft(), stream)

    def end_segment(self) -> Iterator[GeneratorUpdate]:
        """End the segment and begin the next; yield the updates of its generator."""
        if self._kept.kept is not None:
            yield from self.learner.end_task(self._kept.kept)
        self.segment, self.noticed = self.segment + 1, False
        self._begin_segment()
        self.learner.begin_open_task(self.segment)

    def _windows(self) -> dict[str, Tensor]:
        """Return all windows that are kept of this segment, by what they are."""
        parts = {} if self._kept.kept is None else {"kept": self._kept.kept}
        parts |= {"latest": join(list(self._latest))} if self._latest else {}
        return {f"{part}.{name}": getattr(parts[part], name) for part in parts for name in PARTS}

    def state_dict(self) -> dict[str, Tensor]:
        counters = torch.tensor([self.segment, self.updates, self._kept.added])
        lengths = torch.tensor([len(batch) for batch in self._latest], dtype=torch.int64)
        own = {"counters": counters, "lengths": lengths, **self.detector.state_dict()}
        own |= {name: tensor.clone() for name, tensor in self._windows().items()}
        return self.learner.state_dict() | {f"segment/{name}": own[name] for name in own}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.learner.load_state_dict(state)
        device = self.learner.optimization.vector.device
        own = {name[8:]: state[name] for name in state if name.startswith("segment/")}

        def windows(part: str) -> list[Tensor]:
            return [own[f"{part}.{name}"].to(device) for name in PARTS]

        self._begin_segment()
        self.segment, self.updates, self._kept.added = own["counters"].tolist()
        self.detector.load_state_dict(own)
        if self._kept.added:
            self._kept.kept = Batch(*windows("kept"))
        if lengths := own["lengths"].tolist():
            batches = zip(*(part.split(lengths) for part in windows("latest")), strict=True)
            self._latest.extend(Batch(*batch) for batch in batches)
