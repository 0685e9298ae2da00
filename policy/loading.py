"""From a description to a policy: what a run builds, and what a checkpoint says it holds."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from policy.agent import DiffusionPolicy
from policy.checkpoint import CheckpointError, load, newest
from policy.choices import unknown
from policy.diffusion import Diffusion
from policy.normalizer import Normalizer


@dataclass(frozen=True)
class PolicySpec:
    """Everything that decides a policy's architecture; JSON in a checkpoint's manifest."""

    tasks: list[str]
    network: dict[str, Any]  # name and options
    diffusion: dict[str, Any]
    observation_steps: int
    action_steps: int
    executed_steps: int
    observation_size: int  # of the largest task; smaller ones are padded
    action_size: int
    task_conditioning: str
    fourier_octaves: int
    input_frames: dict[str, str] = field(default_factory=dict)  # of tasks whose actions are not in the base frame

    def input_frame(self, task: str) -> str:
        """The frame in which the policy gives its actions on that task."""
        return self.input_frames.get(task, "base")


def make_normalizer(bounds: list[tuple[np.ndarray, np.ndarray]]) -> Normalizer:
    """The declared bounds of every task, padded to the largest."""
    normalizer = Normalizer(len(bounds), max(len(low) for low, _ in bounds))
    for task, (low, high) in enumerate(bounds):
        normalizer.set_task(task, torch.as_tensor(low), torch.as_tensor(high))
    return normalizer


def make_policy(spec: PolicySpec, normalizer: Normalizer) -> DiffusionPolicy:
    """The policy of `spec` with fresh weights, on the device of `normalizer`."""
    options = dict(spec.network)
    device = normalizer.low.device
    return DiffusionPolicy(
        network=options.pop("name"),
        network_options=options,
        diffusion=Diffusion(**spec.diffusion, device=device),
        normalizer=normalizer,
        observation_steps=spec.observation_steps,
        action_steps=spec.action_steps,
        executed_steps=spec.executed_steps,
        action_size=spec.action_size,
        task_conditioning=spec.task_conditioning,
        fourier_octaves=spec.fourier_octaves,
    ).to(device)


def find_device(name: str) -> torch.device:
    """`cpu`, `cuda`, or with `auto` the GPU if there is one; ValueError if it is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise unknown("device", name, ("auto", "cpu", "cuda"))
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device=cuda: torch finds no GPU; use device=cpu")
    return torch.device(name)


def load_policy(path: Path | str, device: str = "cpu") -> tuple[DiffusionPolicy, PolicySpec]:
    """The policy of a checkpoint folder, or of the newest checkpoint of a run; CheckpointError if it cannot be."""
    place = find_device(device)
    folder = find_checkpoint(path)
    checkpoint = load(folder)
    try:
        spec = PolicySpec(**checkpoint.manifest["policy"])
        policy = make_policy(spec, Normalizer(len(spec.tasks), spec.observation_size).to(place))
        policy.load_state_dict(checkpoint.weights)
    except (KeyError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{folder}: the weights do not fit the architecture it describes ({reason})") from error
    return policy.eval(), spec


def tasks_of(path: Path | str, spec: PolicySpec) -> list[str]:
    """The tasks that a checkpoint's policy is for: all of its sequence, or with method=single the one it learned."""
    folder = find_checkpoint(path)
    if load(folder).manifest.get("facts", {}).get("method") != "single":
        return spec.tasks
    return [spec.tasks[int(folder.name.split("_")[0])]]


def find_checkpoint(path: Path | str) -> Path:
    """`path` itself if it is a checkpoint, else the newest one of the run directory `path`."""
    path = Path(path)
    if (path / "manifest.json").exists():
        return path
    found = newest(path / "checkpoints")
    if found is None:
        raise CheckpointError(f"{path}: no checkpoint here; give runs/<name> or runs/<name>/checkpoints/<k>_<task>")
    return found


def describe(spec: PolicySpec) -> dict[str, Any]:
    """JSON of `spec`."""
    return asdict(spec)
