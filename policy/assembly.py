"""The parts of a run that a configuration describes: architecture, windows, replay, what a method works with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf

from datasets.store import DemonstrationStore
from datasets.windows import Windows
from envs.evaluator import Evaluator
from envs.seeds import REPLAY
from envs.tasks import Task, get_task
from policy.agent import Batch, DiffusionPolicy, PolicyActor, WindowSource, join
from policy.generator import make_generator
from policy.loading import PolicySpec, make_normalizer, make_policy
from policy.methods import build_method
from policy.methods.base import Parts
from policy.normalizer import Normalizer
from policy.optimization import OptimizerSettings
from policy.options import make_fisher
from policy.replay import Draw, DrawnReplay, GeneratedReplay, ReplaySource
from policy.training import TaskWindows

ROLLOUT_EPISODES = 100  # of each earlier task with replay=rollout


def require_parts(config: DictConfig, tasks: list[Task]) -> None:
    """ValueError where the options describe no policy, generator or method; builds them once and drops them."""
    spec, normalizer = make_spec(config, tasks), make_normalizer([(task.low, task.high) for task in tasks])
    if config.replay.source == "generator":
        make_generator(config.replay, spec, normalizer)
    build_method(config.method.name, make_parts(config, make_policy(spec, normalizer), None))


def make_spec(config: DictConfig, tasks: list[Task], input_frames: dict[str, str] | None = None) -> PolicySpec:
    """The policy that a configuration describes."""
    return PolicySpec(
        tasks=[task.label for task in tasks],
        network=OmegaConf.to_container(config.network),  # type: ignore[arg-type]
        diffusion=OmegaConf.to_container(config.diffusion),  # type: ignore[arg-type]
        observation_steps=config.observation_steps,
        action_steps=config.action_steps,
        executed_steps=config.executed_steps,
        observation_size=max(task.observation_size for task in tasks),
        action_size=tasks[0].action_size,
        task_conditioning=config.task_conditioning,
        fourier_octaves=config.fourier_octaves,
        input_frames=input_frames or {},
    )


def make_windows(
    config: DictConfig, spec: PolicySpec, store: DemonstrationStore, task: int, device: torch.device
) -> Callable[[], TaskWindows]:
    """Reads the first `demonstrations.episodes` episodes, clipped as the simulator's, when they are needed."""
    described = get_task(spec.tasks[task])

    def read() -> TaskWindows:
        ends = store.episode_ends[: config.demonstrations.episodes]
        seen = store.observations(list(described.observations))[: ends[-1]]
        observations = pad(np.clip(seen, described.low, described.high), spec.observation_size)
        actions = store.read(["action"])["action"][: ends[-1]]
        steps = (spec.observation_steps, spec.action_steps)
        return TaskWindows(Windows.from_episodes(observations, actions, ends, *steps, device), task)

    return read


def pad(observations: np.ndarray, size: int) -> np.ndarray:
    """Observations [..., Do] with zeros appended up to `size`."""
    width = [(0, 0)] * (observations.ndim - 1) + [(0, size - observations.shape[-1])]
    return np.pad(observations, width)


def make_replay(
    config: DictConfig,
    spec: PolicySpec,
    normalizer: Normalizer,
    windows: list[Callable[[], TaskWindows]],
    evaluator: Evaluator,
) -> ReplaySource | None:
    """The source that `replay=` names."""
    settings = config.replay
    if settings.source == "none":
        return None
    if settings.source == "demonstrations":
        return DrawnReplay(lambda teacher, task, count, generator: windows[task]().sample(count, generator))
    if settings.source == "rollout":
        return DrawnReplay(_rollouts(evaluator))
    return GeneratedReplay(
        make_generator(settings, spec, normalizer),
        OptimizerSettings(
            learning_rate=settings.learning_rate,
            precision=config.optimizer.get("precision", "float32"),  # a run of an older version is resumed
        ),
        updates=settings.updates,
        batch_size=config.batch_size,
        pool=settings.pool,
    )


def _rollouts(evaluator: Evaluator) -> Draw:
    """Windows of the teacher's own successful rollouts."""

    def draw(teacher: DiffusionPolicy, task: int, count: int, generator: torch.Generator) -> Batch:
        actor = PolicyActor(teacher, task, recording=True)
        results = evaluator.rollouts(actor, task, REPLAY[:ROLLOUT_EPISODES])
        solved = [window for r in results if r.success for window in actor.windows[r.seed]]
        if not solved:
            raise ValueError(
                f"replay=rollout: the previous policy solved none of {ROLLOUT_EPISODES} episodes of task {task}; "
                "raise updates_per_task or choose another replay="
            )
        return join(solved).sample(count, generator)

    return draw


def make_parts(
    config: DictConfig,
    policy: DiffusionPolicy,
    replay: ReplaySource | None,
    everything: Callable[[], WindowSource] | None = None,
) -> Parts:
    """What a configuration gives a method to work with."""
    return Parts(
        policy=policy,
        optimizer=OptimizerSettings(**config.optimizer),
        replay=replay,
        replay_batch_size=config.replay.batch_size,
        replay_pool=config.replay.pool,
        distillation_weight=config.method.get("distillation_weight", 1.0),
        fisher=make_fisher(config),
        fisher_samples=config.fisher.samples,
        fisher_targets=config.fisher.get("targets", "demonstrations"),
        trust_region_strength=config.method.get("strength", 1.0),
        trust_region_radius=config.method.get("radius"),
        trust_region_average=config.method.get("average", False),
        trust_region_recentre=config.method.get("recentre", False),
        trust_region_anneal=config.method.get("anneal", False),
        inner_rate=config.method.get("inner_rate", 1e-4),
        momentum=config.method.get("momentum", 0.9),
        everything=everything,
        seed=config.seed,
    )
