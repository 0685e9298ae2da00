"""One scripted expert a task."""

from __future__ import annotations

from collections.abc import Callable

from envs.experts.can import CanExpert
from envs.experts.lift import LiftExpert
from envs.experts.motion import Expert, Landmarks
from envs.experts.square import SquareExpert

EXPERTS: dict[str, Callable[[Landmarks], Expert]] = {
    "lift": LiftExpert,
    "can": CanExpert,
    "square": SquareExpert,
}
