"""The table of continual-learning methods.

A row is the options of a method, a frozen dataclass whose first field is `name`. Its
`build(setting)` makes the method.
"""

from reconverge.policy.continual.methods.agem import AgemOptions
from reconverge.policy.continual.methods.er import ErOptions
from reconverge.policy.continual.methods.ewc import EwcOptions
from reconverge.policy.continual.methods.finetune import FinetuneOptions
from reconverge.policy.continual.methods.l2 import L2Options
from reconverge.policy.continual.methods.mas import MasOptions
from reconverge.policy.continual.methods.meta import FtmlOptions, VrMclOptions
from reconverge.policy.continual.methods.multitask import MultitaskOptions
from reconverge.policy.continual.methods.online_ewc import OnlineEwcOptions
from reconverge.policy.continual.methods.packnet import PacknetOptions
from reconverge.policy.continual.methods.replay import ReplayOptions
from reconverge.policy.continual.methods.single import SingleOptions
from reconverge.policy.continual.methods.trust_region import TrustRegionOptions

METHODS: dict[str, type] = {
    "finetune": FinetuneOptions,
    "l2": L2Options,
    "ewc": EwcOptions,
    "online_ewc": OnlineEwcOptions,
    "mas": MasOptions,
    "packnet": PacknetOptions,
    "er": ErOptions,
    "agem": AgemOptions,
    "replay": ReplayOptions,
    "trust_region": TrustRegionOptions,
    "ftml": FtmlOptions,
    "vr_mcl": VrMclOptions,
    "multitask": MultitaskOptions,
    "single": SingleOptions,
}
