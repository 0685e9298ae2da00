"""The table of encoders, encoder(pictures [n, H, W, 3]) -> [n, F], and what a policy observes.

A row is the options of an encoder, a frozen dataclass whose first field is `name`. The `build()` of
one that is FROZEN makes the encoder (`envs.render.sight.Encoder`), the `eye()` of one that is
LEARNED makes what looks at a camera's pictures inside the policy's network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from reconverge.envs.cameras import LARGEST, SMALLEST, View
from reconverge.envs.render.sight import Encoder, Sight
from reconverge.options import choose, option
from reconverge.policy.model.encoders.pretrained import EfficientNetOptions, TimmOptions
from reconverge.policy.model.encoders.resnet import ResNet18Options

FROZEN: dict[str, type] = {"efficientnet_lite0": EfficientNetOptions, "timm": TimmOptions}
LEARNED: dict[str, type] = {"resnet18": ResNet18Options}
ENCODERS = FROZEN | LEARNED
OBSERVATIONS = ("state", "pixels", "both")


@dataclass(frozen=True)
class SightOptions:
    """What a policy observes: the simulator's state, pictures, or both."""

    observations: str = option(
        "state",
        "state: poses of robot and objects | pixels: pictures, and what the robot measures of "
        "itself | both",
        choices=OBSERVATIONS,
    )
    cameras: list[str] = option(
        ["agentview", "eye_in_hand"],
        "whose pictures a policy sees; with _depth at its end how far a camera sees",
        text="free",
    )
    picture_size: int = option(
        84, "height and width of a picture, pixels", at_least=SMALLEST, at_most=LARGEST
    )


def make_sight(
    observations: str, cameras: Sequence[str], picture_size: int, encoder: Mapping[str, Any]
) -> Sight:
    """Return what looks at the simulator, by SightOptions and the options of the encoder."""
    view = View(tuple(cameras), picture_size)
    frozen = None if encoder["name"] in LEARNED else _built(tuple(encoder.items()))
    return Sight(view, frozen, keeps_state=observations == "both")


@lru_cache
def _built(values: tuple[tuple[str, Any], ...]) -> Encoder:
    """Return the frozen encoder of these options, one in the process."""
    return choose("encoder", ENCODERS, dict(values)).build()
