"""Film a policy or an expert: `python -m tools.export_video checkpoint=runs/<name> env=can n_episodes=4`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from omegaconf import DictConfig
from tqdm import tqdm

from configs import commandline
from envs.render import FilmedEnv, open_video
from envs.rollout import Actor, Rollout, rollout
from envs.tasks import Task, task_sequence
from envs.vector import VectorEnv
from policy.agent import PolicyActor
from policy.loading import load_policy, tasks_of
from tools.collect import NoisyExpert

MakeActor = Callable[[VectorEnv], Actor]


def main() -> None:
    commandline.run("export_video", run)


def run(config: DictConfig) -> None:
    """One film a task."""
    tasks = task_sequence(config.env)
    if config.n_episodes < 1:
        raise ValueError(f"n_episodes must be at least 1, got {config.n_episodes}")
    if config.output is not None and len(tasks) > 1:
        raise ValueError(f"output={config.output} is one file for {len(tasks)} tasks; name one task, or leave it out")
    make_actors, frames = ([_expert] * len(tasks), ["base"] * len(tasks)) if config.expert else _policy(config, tasks)
    for task, make_actor, frame in zip(tasks, make_actors, frames, strict=True):
        path = Path(config.output or f"videos/{task.name}.mp4")
        results = film(
            task, make_actor, path, range(config.seed, config.seed + config.n_episodes),
            camera=config.camera, width=config.width, height=config.height, input_frame=frame,
        )  # fmt: skip
        print(f"{path}: {len(results)} episodes of {task.name}, {sum(r.success for r in results)} successful")


def film(
    task: Task,
    make_actor: MakeActor,
    path: Path,
    seeds: range,
    *,
    camera: str | None = None,
    width: int = 640,
    height: int = 480,
    input_frame: str = "base",
) -> list[Rollout]:
    """Run one episode a seed, one after another in one film at `path`; RenderError if it cannot be made."""
    with (
        open_video(path, width=width, height=height) as show,
        FilmedEnv(task, show, camera=camera, width=width, height=height, input_frame=input_frame) as env,
        tqdm(total=len(seeds), desc=task.name, unit="episode") as bar,
    ):

        def advance(_: Rollout) -> None:
            bar.update()

        return rollout(env, make_actor(env), seeds, advance)


def _expert(env: VectorEnv) -> Actor:
    return NoisyExpert(env, noise=0.0)


def _policy(config: DictConfig, tasks: list[Task]) -> tuple[list[MakeActor], list[str]]:
    """The checkpoint's policy, acting on each of the tasks, and the frames of its actions there."""
    if config.checkpoint is None:
        raise ValueError("checkpoint= is missing; give runs/<name>, a folder in its checkpoints/, or expert=true")
    policy, spec = load_policy(config.checkpoint, config.device)
    learned = tasks_of(config.checkpoint, spec)
    unknown = [task.name for task in tasks if task.name not in learned]
    if unknown:
        known = ", ".join(learned)
        raise ValueError(f"{config.checkpoint} has not learned {unknown[0]!r}; choose env= from {known}")
    actors = [_always(PolicyActor(policy, spec.tasks.index(task.name))) for task in tasks]
    return actors, [spec.input_frame(task.name) for task in tasks]


def _always(actor: Actor) -> MakeActor:
    return lambda env: actor


if __name__ == "__main__":
    main()
