"""Policies, windows and methods small enough to learn within a second: what several tests share."""

from dataclasses import replace
from itertools import islice

import torch

from reconverge.policy.continual.fisher import FISHERS
from reconverge.policy.continual.learner import Setting
from reconverge.policy.continual.loop import JointSource
from reconverge.policy.continual.methods import METHODS
from reconverge.policy.continual.optimization import OptimizerOptions
from reconverge.policy.continual.rehearsal import (
    Budget,
    DrawnReplay,
    EpisodicMemory,
    GeneratedReplay,
    Replay,
)
from reconverge.policy.model.batch import Batch
from reconverge.policy.model.diffusion import Diffusion, DiffusionOptions
from reconverge.policy.model.generator import WindowGenerator
from reconverge.policy.model.networks.mlp import MLPOptions
from reconverge.policy.model.normalizer import Normalizer
from reconverge.policy.model.policy import DiffusionPolicy, PolicyOptions
from support.typecheck import unchecked

torch.set_num_threads(1)  # networks this small wait for threads longer than they compute

SIZES = (3, 2)  # Do of the two tasks
CHECKED = 5
NETWORK = MLPOptions(width=24, depth=1, diffusion_step_embed_dim=16, context=16)
DIFFUSION = DiffusionOptions(num_train_timesteps=20, num_inference_steps=4)
OPTIMIZER = OptimizerOptions(learning_rate=5e-3, warmup=5, ema_decay=0.95, precision="float32")
# The action of task 0 is RELATION @ observation.
RELATION = torch.tensor([[0.6, -0.3, 0.2], [0.1, 0.5, -0.4]])


def make_normalizer(rows=2):
    normalizer = Normalizer(rows, max(SIZES))
    for task, size in enumerate(SIZES):
        normalizer.set_task(task, torch.full((size,), -2.0), torch.full((size,), 2.0))
    return normalizer


def make_action_mask(sizes=(2, 2)):
    """Da of the two tasks."""
    return torch.tensor([[1.0] * size + [0.0] * (max(sizes) - size) for size in sizes])


def make_policy(
    seed=0,
    *,
    task_conditioning="embedding",
    fourier_octaves=0,
    network=NETWORK,
    steps=(2, 3, 2),
    prediction_type="sample",
    action_sizes=(2, 2),
    rows=2,
):
    torch.manual_seed(seed)
    options = PolicyOptions(*steps, fourier_octaves, task_conditioning)
    diffusion = Diffusion(replace(DIFFUSION, prediction_type=prediction_type))
    mask = make_action_mask((*action_sizes, *(2,) * (rows - 2)))
    return DiffusionPolicy(options, network, diffusion, make_normalizer(rows), mask)


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


def make_generator(seed=1, action_sizes=(2, 2), rows=2, **network):
    torch.manual_seed(seed)
    diffusion = Diffusion(replace(DIFFUSION, num_inference_steps=10))
    options, network = PolicyOptions(n_obs_steps=2, horizon=3), replace(NETWORK, **network)
    mask = make_action_mask((*action_sizes, *(2,) * (rows - 2)))
    return WindowGenerator(options, network, diffusion, make_normalizer(rows), mask)


class Episodes:
    """Eight episodes of a task of 50 windows each, or some of them."""

    def __init__(self, task, numbers=range(8)):
        self.task, self.numbers = task, list(numbers)
        self.windows = make_windows(task)
        self.episode_bytes = torch.full((len(self.numbers),), 50 * 20)

    def select(self, episodes):
        return Episodes(self.task, [self.numbers[i] for i in episodes])

    def sample(self, size, generator):
        index = torch.tensor([50 * i + j for i in self.numbers for j in range(50)])
        kept = Batch(*(part[index] for part in vars(self.windows).values()))
        return kept.sample(size, generator)

    def pool(self, size, generator):
        return self.sample(size, generator)


def make_replay(source="demonstrations", *, updates=5, pool=32, rows=2):
    """The source of samples of earlier tasks."""
    if source == "memory":  # four of the first task's eight episodes
        return EpisodicMemory(Episodes, Budget(4, "episodes", seed=3))
    if source == "generator":
        generator = make_generator(rows=rows)
        return GeneratedReplay(generator, OPTIMIZER, updates=updates, batch_size=16, pool=pool)
    return DrawnReplay(
        lambda teacher, task, count, generator: make_windows(task).sample(count, generator)
    )


def make_setting(
    source="demonstrations",
    *,
    fisher="rank1",
    policy=None,
    pool=200,
    optimizer=OPTIMIZER,
    targets="demonstrations",
    rows=2,
):
    """What a method is built from."""
    return Setting(
        denoiser=policy or make_policy(),
        optimizer=optimizer,
        replay=Replay(make_replay(source, rows=rows), batch_size=32, pool=pool),
        fisher=FISHERS[fisher](samples=512, targets=targets),
        all_tasks=lambda: JointSource([make_windows(task) for task in range(2)]),
        batch_size=32,
        tasks=len(SIZES),
        seed=3,
    )


def make_method(
    name,
    source="demonstrations",
    *,
    fisher="rank1",
    targets="demonstrations",
    policy=None,
    pool=200,
    optimizer=OPTIMIZER,
    **options,
):
    """The named method; `options` are its own, a strength of 1 unless given."""
    defaults = {"strength": 1.0, "centre": "each_optimum"}
    legal = METHODS[name].__dataclass_fields__
    own = {key: value for key, value in (defaults | options).items() if key in legal}
    setting = make_setting(
        source, fisher=fisher, targets=targets, policy=policy, pool=pool, optimizer=optimizer
    )
    return METHODS[name](**own).build(setting)


def learn(method, task, updates, *, last=False, seed=0):
    """A whole task; the metrics of every update. The shapes of a few updates are checked."""
    windows, generator = make_windows(task, seed=seed), torch.Generator().manual_seed(task)
    method.begin_task(task, updates)
    batches = (windows.sample(32, generator) for _ in range(updates))
    metrics = [method.update(batch) for batch in islice(batches, CHECKED)]
    with unchecked():
        metrics += [method.update(batch) for batch in batches]
    for _ in () if last else method.end_task(windows):
        pass
    return metrics


def action_error(policy, task):
    """Mean squared error of planned actions on unseen windows; the actions' own is about 0.15."""
    windows = make_windows(task, 300, seed=7)
    noise = torch.randn(windows.actions.shape, generator=torch.Generator().manual_seed(0))
    plans = policy.plan(windows.observations, windows.task, noise)
    return float((plans - windows.actions).square().mean())
