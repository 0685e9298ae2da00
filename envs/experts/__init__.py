"""One scripted expert a task."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from envs.experts.can import CanExpert
from envs.experts.lift import LiftExpert
from envs.experts.metaworld import MetaworldExpert
from envs.experts.motion import Expert, Landmarks
from envs.experts.square import SquareExpert
from envs.tasks import TASKS

EXPERTS: dict[str, Callable[[Landmarks], Expert]] = {
    "lift": LiftExpert,
    "can": CanExpert,
    "square": SquareExpert,
    **{task.expert: partial(MetaworldExpert, task.expert) for task in TASKS.values() if task.suite == "metaworld"},
}
