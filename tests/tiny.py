"""Policies, windows and methods small enough to learn within a second: what several tests share."""

import torch

from policy.agent import Batch, DiffusionPolicy
from policy.diffusion import Diffusion
from policy.fisher import build_fisher
from policy.generator import WindowGenerator
from policy.methods import build_method
from policy.methods.base import Parts
from policy.normalizer import Normalizer
from policy.optimization import OptimizerSettings
from policy.replay import DrawnReplay, GeneratedReplay
from policy.training import JointWindows

torch.set_num_threads(1)  # networks this small wait for threads longer than they compute

SIZES = (3, 2)  # Do of the two tasks
NETWORK = {"width": 24, "depth": 1, "embedding": 16, "context": 16}
OPTIMIZER = OptimizerSettings(learning_rate=5e-3, warmup=5, ema_decay=0.95)
RELATION = torch.tensor([[0.6, -0.3, 0.2], [0.1, 0.5, -0.4]])  # action of task 0 = RELATION @ observation


def make_normalizer():
    normalizer = Normalizer(len(SIZES), max(SIZES))
    for task, size in enumerate(SIZES):
        normalizer.set_task(task, torch.full((size,), -2.0), torch.full((size,), 2.0))
    return normalizer


def make_policy(seed=0, *, task_conditioning="embedding", fourier_octaves=0, network=None, steps=(2, 3, 2)):
    torch.manual_seed(seed)
    return DiffusionPolicy(
        network="mlp",
        network_options=NETWORK if network is None else network,
        diffusion=Diffusion(train_steps=20, inference_steps=4, prediction="sample"),
        normalizer=make_normalizer(),
        observation_steps=steps[0],
        action_steps=steps[1],
        executed_steps=steps[2],
        action_size=2,
        task_conditioning=task_conditioning,
        fourier_octaves=fourier_octaves,
    )


def wanted(observations, task):
    """The action that task 0 wants for an observation; task 1 wants the opposite."""
    actions = observations @ RELATION.T
    return actions if task == 0 else -actions


def make_windows(task, count=400, seed=0, steps=(2, 3)):
    """Windows whose action, the same at each of the Tp steps, follows from the last observation."""
    generator = torch.Generator().manual_seed(100 * seed + task)
    observations = torch.rand((count, steps[0], max(SIZES)), generator=generator) * 2 - 1
    observations[..., SIZES[task] :] = 0
    actions = wanted(observations[:, -1], task)[:, None].repeat(1, steps[1], 1)
    return Batch(observations, actions, torch.full((count,), task))


def make_generator(seed=1, **options):
    torch.manual_seed(seed)
    return WindowGenerator(
        network="mlp",
        network_options={**NETWORK, **options},
        diffusion=Diffusion(train_steps=20, inference_steps=10, prediction="sample"),
        normalizer=make_normalizer(),
        observation_steps=2,
        action_steps=3,
        action_size=2,
    )


def make_replay(source="demonstrations", *, updates=5, pool=32):
    if source == "generator":
        return GeneratedReplay(make_generator(), OPTIMIZER, updates=updates, batch_size=16, pool=pool)
    return DrawnReplay(lambda teacher, task, count, generator: make_windows(task).sample(count, generator))


def make_parts(
    source="demonstrations",
    *,
    strength=1.0,
    radius=None,
    average=False,
    recentre=False,
    anneal=False,
    fisher="rank1",
    targets="demonstrations",
    inner_rate=1e-4,
    policy=None,
    pool=200,
    optimizer=OPTIMIZER,
):
    return Parts(
        policy=policy or make_policy(),
        optimizer=optimizer,
        replay=make_replay(source),
        replay_batch_size=32,
        replay_pool=pool,
        distillation_weight=1.0,
        fisher=build_fisher(fisher),
        fisher_samples=512,
        fisher_targets=targets,
        trust_region_strength=strength,
        trust_region_radius=radius,
        trust_region_average=average,
        trust_region_recentre=recentre,
        trust_region_anneal=anneal,
        inner_rate=inner_rate,
        momentum=0.9,
        everything=lambda: JointWindows([make_windows(task) for task in range(2)]),
        seed=3,
    )


def make_method(name, source="demonstrations", **options):
    return build_method(name, make_parts(source, **options))


def learn(method, task, updates, *, last=False, seed=0):
    """A whole task; the metrics of every update."""
    windows, generator = make_windows(task, seed=seed), torch.Generator().manual_seed(task)
    method.begin_task(task, updates)
    metrics = [method.update(windows.sample(32, generator)) for _ in range(updates)]
    for _ in method.end_task(windows, last):
        pass
    return metrics


def action_error(policy, task):
    """Mean squared error of planned actions on windows that no training saw; the actions' own is about 0.15."""
    windows = make_windows(task, 300, seed=7)
    noise = torch.randn(windows.actions.shape, generator=torch.Generator().manual_seed(0))
    plans = policy.plan(windows.observations, windows.task, noise)
    return float((plans - windows.actions).square().mean())
