"""Small untrained policies whose every weight matters: checkpoints for lift and can, and one of
each kind.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from reconverge.envs.catalog import TASKS
from reconverge.policy.deployment.onnx import export_sampler
from reconverge.policy.model.diffusion import Diffusion, DiffusionOptions
from reconverge.policy.model.networks.unet1d import UNet1dOptions
from reconverge.policy.model.policy import DiffusionPolicy, PolicyOptions
from reconverge.policy.runs.checkpoint import MANIFEST, SCHEMA, Checkpoint, save
from reconverge.policy.runs.loading import (
    PolicySpec,
    load_policy,
    make_normalizer,
    make_policy,
    seen_by,
)
from reconverge.seal import seal
from support import tiny

NETWORK = asdict(tiny.NETWORK)
DIFFUSION = asdict(DiffusionOptions(num_train_timesteps=20, num_inference_steps=3))
UNET = UNet1dOptions(
    down_dims=[4, 8],
    n_groups=2,
    diffusion_step_embed_dim=8,
    kernel_size=3,
    attention_levels=[2],
    heads=2,
)
CASES = [  # with the checkpoint each value of each option, and an odd number of action steps
    ("mlp", "epsilon", "none", None),
    ("mlp", "v_prediction", "none", 1.0),
    ("unet1d", "v_prediction", "embedding", None),
]


def awake(policy, seed=1):
    """The policy, with random numbers for the weights that start as zeros."""
    torch.manual_seed(seed)
    for parameter in policy.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.2)
    return policy.eval().requires_grad_(False)


def make_spec(tasks=("lift", "can"), **changes):
    """The description of a tiny policy for these tasks."""
    fields = {
        "tasks": list(tasks),
        "network": NETWORK,
        "diffusion": DIFFUSION,
        "n_obs_steps": 2,
        "horizon": 4,
        "n_action_steps": 2,
        "observation_size": max(TASKS[name].observation_size for name in tasks),
        "action_size": 7,
        "action_sizes": {name: 4 for name in tasks if TASKS[name].action_size == 4},
        "task_conditioning": "embedding",
        "fourier_octaves": 1,
    }
    return PolicySpec(**{**fields, **changes})


def make_checkpoint(folder, name="lift", *, index=0, seed=0, facts=None, **changes):
    """Save and load `<index>_<name>` in `folder`."""
    torch.manual_seed(seed)
    spec = make_spec(**changes)
    normalizer = make_normalizer(spec, [spec.task(task) for task in spec.tasks])
    policy = awake(make_policy(spec, normalizer), seed + 1)
    manifest = {"policy": spec.to_json(), "facts": facts or {}}
    saved = Checkpoint(policy.state_dict(), {}, manifest)
    return load_policy(save(folder, index, name, None, saved))


def rewrite(folder, **changes):
    """Change entries of a checkpoint's manifest and seal it again; None removes an entry."""
    changes |= {"schema": None, "sha256": None}  # of the old seal
    manifest = {**json.loads((folder / MANIFEST).read_text()), **changes}
    kept = {key: value for key, value in manifest.items() if value is not None}
    seal(folder, MANIFEST, SCHEMA, kept)


def make_seeing(folder, tasks=("lift", "can"), cameras=("agentview", "eye_in_hand")):
    """A checkpoint of a policy that gets pictures of 32 pixels, and no objects' poses."""
    encoder = {"name": "efficientnet_lite0", "reduction": 8}
    options = {"observations": "pixels", "cameras": [*cameras], "picture_size": 32}
    sight = seen_by({**options, "encoder": encoder})
    size = 9 + 80 * len(cameras)  # what the robot measures, and features
    return make_checkpoint(folder, tasks=tasks, sight=sight, observation_size=size)


def make_case(index):
    network, prediction_type, task_conditioning, clip = CASES[index]
    torch.manual_seed(0)
    diffusion = Diffusion(DiffusionOptions(20, 4, prediction_type, clip))
    options = PolicyOptions(2, 3, 2, fourier_octaves=2, task_conditioning=task_conditioning)
    chosen = UNET if network == "unet1d" else tiny.NETWORK
    mask = tiny.make_action_mask((2, 1))
    return awake(DiffusionPolicy(options, chosen, diffusion, tiny.make_normalizer(), mask))


if __name__ == "__main__":
    for index in range(len(CASES)):
        export_sampler(make_case(index), Path(sys.argv[1]) / f"{index}.onnx")
