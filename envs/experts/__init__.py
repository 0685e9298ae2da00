"""One scripted expert a task."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from envs.experts.can import CanExpert
from envs.experts.lift import LiftExpert
from envs.experts.metaworld import MetaworldExpert, PatientExpert, StickPullExpert
from envs.experts.motion import Expert, Landmarks
from envs.experts.square import SquareExpert
from envs.tasks import TASKS

EXPERTS: dict[str, Callable[[Landmarks], Expert]] = {
    "lift": LiftExpert,
    "can": CanExpert,
    "square": SquareExpert,
    **{
        task.simulator: partial(MetaworldExpert, task.simulator)
        for task in TASKS.values()
        if task.suite == "metaworld"
    },
    "push-back": partial(PatientExpert, "push-back-v3", 0.7),
    "stick-pull": partial(StickPullExpert, "stick-pull-v3"),
    "shelf-place": partial(PatientExpert, "shelf-place-v3", 0.4),
}
