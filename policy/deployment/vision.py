"""The encoder of a policy that sees, as ONNX: from pictures of any camera to their features."""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from reconverge.envs.render.sight import Encoder, Sight
from reconverge.errors import ReconvergeError, one_line
from reconverge.policy.deployment.onnx import BATCHES, compare, write_onnx

ENCODER = (("pictures",), "features")


def export_encoder(sight: Sight, path: Path) -> float:
    """Write a frozen encoder as a file that takes pictures uint8 [B, H, W, 3] of the size of
    `sight`.

    Returns the largest difference of its features [B, F], which are in [-1, 1]. ReconvergeError if
    that is too much, and for an encoder that ONNX cannot hold.
    """
    encoder, size = sight.encoder, sight.view.size
    assert encoder is not None, "an encoder that learns is a part of the policy"
    module = getattr(encoder, "module", None)
    if not isinstance(module, nn.Module):
        raise _unfit(encoder, "it has no `module`, a torch module from pictures to features")
    examples = [[example_pictures(count, size, seed=count)] for count in BATCHES]
    try:
        write_onnx(module, examples[-1], ENCODER, path)
        return compare(
            path,
            ENCODER[0],
            lambda pictures: torch.from_numpy(encoder(pictures.numpy())),
            examples,
        )
    except (ReconvergeError, OSError, MemoryError):
        raise
    except Exception as error:  # of torch's exporter or of onnxruntime, of any type
        raise _unfit(encoder, one_line(error)) from error


def _unfit(encoder: Encoder, reason: str) -> ReconvergeError:
    given = encoder.fingerprint
    name = " ".join(str(given[key]) for key in ("name", "model") if key in given)
    return ReconvergeError(
        f"encoder {name}: cannot be exported to ONNX ({reason}); serve the policy "
        "(reconverge serve), or train one with encoder=efficientnet_lite0"
    )


def example_pictures(count: int, size: int, seed: int) -> UInt8[Tensor, "n H W 3"]:
    """Draw pictures of tiles of random colours, wider ones from picture to picture."""
    generator = torch.Generator().manual_seed(seed)
    colours = torch.randint(256, (count, size, size, 3), dtype=torch.uint8, generator=generator)
    places = [torch.arange(size) // (1 + 3 * i) for i in range(count)]
    return torch.stack([one[at][:, at] for one, at in zip(colours, places, strict=True)])
