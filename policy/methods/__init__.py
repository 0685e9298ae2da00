"""The table of continual-learning methods."""

from collections.abc import Callable

from policy.choices import unknown
from policy.methods.base import Method, Parts
from policy.methods.ewc import ewc
from policy.methods.finetune import finetune
from policy.methods.meta import ftml, vr_mcl
from policy.methods.multitask import multitask
from policy.methods.replay import replay
from policy.methods.single import single
from policy.methods.trust_region import trust_region

METHODS: dict[str, Callable[[Parts], Method]] = {
    "finetune": finetune,
    "ewc": ewc,
    "replay": replay,
    "trust_region": trust_region,
    "ftml": ftml,
    "vr_mcl": vr_mcl,
    "multitask": multitask,
    "single": single,
}


def build_method(name: str, parts: Parts) -> Method:
    """The named method; ValueError lists the choices."""
    if name not in METHODS:
        raise unknown("method", name, METHODS)
    return METHODS[name](parts)
