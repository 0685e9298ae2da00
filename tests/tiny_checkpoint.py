"""Small untrained policies whose every weight matters: a checkpoint for lift and can, and some of each kind."""

import sys
from pathlib import Path

import tiny
import torch
from torch import nn

from envs.tasks import TASKS
from policy.agent import DiffusionPolicy
from policy.checkpoint import Checkpoint, save
from policy.diffusion import Diffusion
from policy.exporting import export_sampler
from policy.loading import PolicySpec, describe, load_policy, make_normalizer, make_policy

NETWORK = {"name": "mlp", "width": 24, "depth": 1, "embedding": 16, "context": 16}
DIFFUSION = {"train_steps": 20, "inference_steps": 3, "prediction": "sample"}
UNET = {"channels": [4, 8], "groups": 2, "embedding": 8, "kernel": 3, "attention_levels": [2], "heads": 2}
CASES = [  # with the checkpoint each value of each option, and an odd number of action steps
    ("mlp", "epsilon", "none", "leading", None),
    ("mlp", "velocity", "none", "trailing", 1.0),
    ("unet1d", "velocity", "embedding", "leading", None),
]


def awake(policy):
    """The policy, with random numbers for the weights that start as zeros."""
    torch.manual_seed(1)
    for parameter in policy.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.2)
    return policy.eval().requires_grad_(False)


def make_checkpoint(folder):
    """The checkpoint's folder, and its policy."""
    torch.manual_seed(0)
    tasks = [TASKS["lift"], TASKS["can"]]
    spec = PolicySpec(
        tasks=[task.name for task in tasks],
        network=NETWORK,
        diffusion=DIFFUSION,
        observation_steps=2,
        action_steps=4,
        executed_steps=2,
        observation_size=max(task.observation_size for task in tasks),
        action_size=7,
        task_conditioning="embedding",
        fourier_octaves=1,
    )
    policy = awake(make_policy(spec, make_normalizer([(task.low, task.high) for task in tasks])))
    path = save(folder, 0, "lift", None, Checkpoint(policy.state_dict(), {}, {"policy": describe(spec)}))
    return path, load_policy(path)[0]


def make_case(index):
    network, prediction, task_conditioning, spacing, clip = CASES[index]
    torch.manual_seed(0)
    return awake(
        DiffusionPolicy(
            network=network,
            network_options=UNET if network == "unet1d" else tiny.NETWORK,
            diffusion=Diffusion(
                train_steps=20, inference_steps=4, prediction=prediction, spacing=spacing, clip=clip,
            ),
            normalizer=tiny.make_normalizer(),
            observation_steps=2,
            action_steps=3,
            executed_steps=2,
            action_size=2,
            task_conditioning=task_conditioning,
            fourier_octaves=2,
        )
    )  # fmt: skip


if __name__ == "__main__":
    for index in range(len(CASES)):
        export_sampler(make_case(index), Path(sys.argv[1]) / f"{index}.onnx")
