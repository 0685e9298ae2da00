"""The policy as ONNX: its denoiser, and the whole sampler from observations to action chunks.

The sampler takes observations in their own units.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan  # torch's only loop that its exporter keeps as one

from reconverge.errors import ReconvergeError
from reconverge.policy.model.diffusion import masked
from reconverge.policy.model.policy import DiffusionPolicy

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
TOLERANCE = 1e-4  # largest difference of an exported file to the policy; actions are in [-1, 1]
BATCHES = (1, 2, 7)  # sizes that an exported file is checked with
DENOISER = (("sample", "step", "condition"), "output")
SAMPLER = (("observations", "task", "noise"), "actions")


class Sampler(nn.Module):
    """`DiffusionPolicy.plan` as a loop of one step; tracing `plan` would unroll all of them."""

    def __init__(self, policy: DiffusionPolicy):
        super().__init__()
        self.policy = policy

    def forward(
        self,
        observations: Float[Tensor, "B To Do"],
        task: Int[Tensor, " B"],
        noise: Float[Tensor, "B Tp Da"],
    ) -> Float[Tensor, "B Tp Da"]:
        diffusion = self.policy.diffusion
        mask = self.policy.mask(task)
        informed, condition = self.policy.informed(observations, task)
        network = masked(informed, mask)

        def step(x: Tensor, row: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            return diffusion.denoise(network, x, *row, condition).contiguous(), row[0].clone()

        x, _ = scan(step, mask * noise, diffusion.sampling_steps())
        return x.clamp(-1.0, 1.0)


def require_packages(names: Sequence[str] = PACKAGES) -> None:
    """Raise ReconvergeError if a package is not installed, of those that exporting needs."""
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise ReconvergeError(
            f"{', '.join(missing)} not installed: pip install 'reconverge[export]'"
        )


def export_denoiser(policy: DiffusionPolicy, path: Path) -> None:
    """Write the network alone: (sample, step, condition) to output.

    The policy must be on the CPU. Dimension 0 of inputs and output is free.
    """
    write_onnx(policy.network, example_denoiser(policy, 2, seed=0), DENOISER, path)


def export_sampler(policy: DiffusionPolicy, path: Path) -> None:
    """Write the whole policy: (observations, task, noise) to actions.

    The policy must be on the CPU. Dimension 0 of inputs and output is free.
    """
    write_onnx(Sampler(policy), example_sampler(policy, 2, seed=0), SAMPLER, path)


def check_export(policy: DiffusionPolicy, folder: Path) -> float:
    """Return the largest difference of the folder's ONNX files to the policy, in action units.

    ReconvergeError if it exceeds `TOLERANCE`.
    """
    denoisers = [example_denoiser(policy, size, seed=size) for size in BATCHES]
    samplers = [example_sampler(policy, size, seed=size) for size in BATCHES]
    return max(
        compare(folder / "denoiser.onnx", DENOISER[0], policy.network, denoisers),
        compare(folder / "sampler.onnx", SAMPLER[0], policy.plan, samplers),
    )


@torch.no_grad()
def compare(
    path: Path,
    names: Sequence[str],
    function: Callable[..., Tensor],
    examples: Sequence[Sequence[Tensor]],
) -> float:
    """Return the largest difference of a file to `function` on inputs of these names.

    ReconvergeError if it exceeds `TOLERANCE`.
    """
    session, worst = open_session(path), 0.0
    for inputs in examples:
        feed = {key: value.numpy() for key, value in zip(names, inputs, strict=True)}
        (found,) = session.run(None, feed)
        error = float(np.abs(found - function(*inputs).numpy()).max())
        if not error <= TOLERANCE:
            raise ReconvergeError(
                f"{path.name} differs from the policy by {error:.1e}, more than {TOLERANCE:.0e}; "
                "use the versions of torch, onnx and onnxruntime that pyproject.toml names"
            )
        worst = max(worst, error)
    return worst


def open_session(path: Path, threads: int = 0):
    """Open an onnxruntime session on `threads` cores (0: all)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # its warnings name constants that it leaves out
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def example_sampler(
    policy: DiffusionPolicy, batch: int, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw observations within each task's bounds, tasks in turn, and noise."""
    generator = torch.Generator().manual_seed(seed)
    low, high = policy.normalizer.low, policy.normalizer.high
    task = torch.arange(batch) % int(policy.normalizer.is_set.sum())
    share = torch.rand((batch, policy.n_obs_steps, low.shape[1]), generator=generator)
    observations = low[task, None] + share * (high - low)[task, None]
    noise = torch.randn((batch, policy.horizon, policy.action_size), generator=generator)
    return observations, task, noise


def example_denoiser(
    policy: DiffusionPolicy, batch: int, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw noise, diffusion steps and the condition of observations."""
    observations, task, noise = example_sampler(policy, batch, seed)
    step = policy.diffusion.draw_steps(batch, torch.Generator().manual_seed(seed))
    return noise, step, policy.condition(observations, task)


def write_onnx(
    module: nn.Module, example: Sequence[Tensor], names: tuple[tuple[str, ...], str], path: Path
) -> None:
    """Write `module`, traced on `example`, with these names of its inputs and its output."""
    shapes = tuple({0: torch.export.Dim("batch")} for _ in example)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(module.eval(), tuple(example), dynamic_shapes=shapes)
        torch.onnx.export(
            program,
            f=path,
            input_names=names[0],
            output_names=[names[1]],
            dynamic_shapes=shapes,
            external_data=False,
            verbose=False,
        )
