"""Inception's features, with which the Frechet distance is the FID of torch-fidelity.

Heusel et al. 2017, arXiv 1706.08500. The weights are a download, so that a run asks for them.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

import torch
from jaxtyping import Float
from torch import Tensor

from reconverge.errors import ReconvergeError, one_line
from reconverge.policy.images.class_tasks import as_bytes

LAYER = "2048"  # the pooled features that FID takes
AT_ONCE = 50

Features = Callable[[Float[Tensor, "N C H W"]], Float[Tensor, "N F"]]
"""features(pictures with values -1 to 1)"""


def inception_features(device: torch.device | str) -> Features:
    """Return the features of Inception; ReconvergeError where they cannot be loaded."""
    try:
        module = import_module("torch_fidelity.feature_extractor_inceptionv3")
        network = module.FeatureExtractorInceptionV3("inception", [LAYER]).eval()
    except ImportError as error:
        raise ReconvergeError(
            "features=inception: needs torch-fidelity; pip install torch-fidelity, or take "
            "features=classifier"
        ) from error
    except (OSError, RuntimeError) as error:
        raise ReconvergeError(
            f"features=inception: its weights cannot be loaded ({one_line(error)}); connect to a "
            "network, or take features=classifier"
        ) from error
    network.to(device)

    @torch.no_grad()
    def features(pictures: Tensor) -> Tensor:
        colours = as_bytes(pictures).expand(-1, 3, -1, -1)
        parts = [network(part)[0] for part in colours.split(AT_ONCE)]
        return torch.cat(parts)

    return features
