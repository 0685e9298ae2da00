"""All tasks at once, from the first update on: the upper bound of every continual learner."""

from __future__ import annotations

from dataclasses import dataclass

from reconverge.errors import ReconvergeError
from reconverge.policy.continual.denoising import Batch, Purpose, Source
from reconverge.policy.continual.learner import Learner, Method, Metrics, Setting


@dataclass(frozen=True)
class MultitaskOptions:
    """Reference: all tasks at once from the first update on."""

    name: str = "multitask"

    def build(self, setting: Setting) -> Method:
        if setting.batch_size < setting.tasks:
            raise ReconvergeError(
                f"batch_size={setting.batch_size}: method=multitask's batches hold every task: at "
                f"least {setting.tasks}"
            )
        return Multitask(setting)


class Multitask(Learner):
    """Every batch holds samples of all tasks of the sequence, whichever task's turn it is."""

    def __init__(self, setting: Setting):
        super().__init__(setting)
        self._read = setting.all_tasks
        self._data: Source | None = None

    @property
    def memory_bytes(self) -> int | None:
        return None

    def update(self, batch: Batch) -> Metrics:
        stream = self.stream(Purpose.ALL_TASKS, self.optimization.update)
        return super().update(self._all_tasks().sample(len(batch), stream))

    def _all_tasks(self) -> Source:
        if self._data is None:
            assert self._read is not None, "method=multitask needs the data of all tasks"
            self._data = self._read()
        return self._data
