"""All tasks at once, from the first update on: the upper bound that no continual learner has. A reference."""

from __future__ import annotations

from policy.agent import Batch, WindowSource
from policy.methods.base import Learner, Method, Metrics, Parts


class Multitask(Learner):
    """Every batch holds windows of all tasks of the sequence, whichever task's turn it is."""

    def __init__(self, parts: Parts):
        super().__init__(parts, replay=False, trust_region=False)
        self._everything: WindowSource | None = None

    def update(self, batch: Batch) -> Metrics:
        if self._everything is None:
            assert self._parts.everything is not None
            self._everything = self._parts.everything()
        drawn = self._everything.sample(len(batch), self._stream(5, self._optimization.update))
        return super().update(drawn)


def multitask(parts: Parts) -> Method:
    return Multitask(parts)
