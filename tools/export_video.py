"""Film a policy, two side by side, or an expert: `python -m tools.export_video checkpoint=runs/<name> env=can`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from omegaconf import DictConfig
from tqdm import tqdm

from configs import commandline
from envs.pictures import Grid
from envs.render import HOLD, FilmedEnv, open_video
from envs.rollout import Actor, Rollout, rollout
from envs.side_by_side import SideBySide
from envs.tasks import Task, task_sequence
from envs.vector import VectorEnv
from policy.agent import PolicyActor
from policy.loading import find_checkpoint, load_policy, tasks_of
from tools.collect import NoisyExpert

MakeActor = Callable[[VectorEnv], Actor]
Shown = tuple[str, list[MakeActor], list[str]]  # whose episodes these are; what acts on each task, in which frame


def main() -> None:
    commandline.run("export_video", run)


def run(config: DictConfig) -> None:
    """One film a task."""
    tasks = task_sequence(config.env)
    if config.n_episodes < 1:
        raise ValueError(f"n_episodes must be at least 1, got {config.n_episodes}")
    if config.output is not None and len(tasks) > 1:
        raise ValueError(f"output={config.output} is one file for {len(tasks)} tasks; name one task, or leave it out")
    seeds = range(config.seed, config.seed + config.n_episodes)
    shown = [_expert(tasks) if config.expert else _checkpoint(config.checkpoint, config.device, tasks)]
    if config.compare is not None:
        shown.append(_checkpoint(config.compare, config.device, tasks))
    titles = [title for title, _, _ in shown]
    for i, task in enumerate(tasks):
        path = Path(config.output or f"videos/{task.label}{'_compared' if config.compare else ''}.mp4")
        results = film(
            task, _together([makers[i] for _, makers, _ in shown], len(seeds)), path, seeds, camera=config.camera,
            width=config.width, height=config.height, titles=titles if config.compare else (),
            input_frame=_same_frame(task, [frames[i] for _, _, frames in shown]),
        )  # fmt: skip
        print(f"{path}: {len(seeds)} episodes of {task.name}, {_counts(results, titles)}")


def film(
    task: Task,
    make_actor: MakeActor,
    path: Path,
    seeds: range,
    *,
    camera: str | None = None,
    width: int = 640,
    height: int = 480,
    titles: Sequence[str] = (),
    input_frame: str = "base",
) -> list[Rollout]:
    """Run one episode a seed, all at once in a grid of pictures of `width` x `height`, in one film at `path`.

    With `titles`, every seed runs once for each of them, in grids side by side. The rollouts of all, in turn;
    RenderError if there can be no film.
    """
    ended: dict[int, Rollout] = {}
    size = Grid(len(seeds), width, height, tuple(titles)).size
    with (
        open_video(path, width=size[0], height=size[1]) as show,
        tqdm(total=task.horizon + HOLD, desc=task.name, unit="frame") as bar,
    ):

        def shown(frame: np.ndarray) -> None:
            show(frame)
            bar.update()

        def count(result: Rollout) -> None:
            ended[result.slot] = result
            bar.set_postfix(ended=len(ended), successful=sum(r.success for r in ended.values()))

        with FilmedEnv(
            task,
            shown,
            camera=camera,
            width=width,
            height=height,
            episodes=len(seeds),
            titles=titles,
            input_frame=input_frame,
        ) as env:
            rollout(env, make_actor(env), [*seeds] * max(1, len(titles)), count)
        bar.total = bar.n  # the horizon was not needed
    return [ended[slot] for slot in sorted(ended)]


def _counts(results: list[Rollout], titles: list[str]) -> str:
    """How many of each title's episodes were successful."""
    size = len(results) // len(titles)
    counts = [sum(r.success for r in results[i * size : (i + 1) * size]) for i in range(len(titles))]
    if len(titles) == 1:
        return f"{counts[0]} successful"
    return ", ".join(f"{count} successful of {title}" for title, count in zip(titles, counts, strict=True))


def _together(make_actors: list[MakeActor], slots: int) -> MakeActor:
    if len(make_actors) == 1:
        return make_actors[0]
    return lambda env: SideBySide([make(env) for make in make_actors], slots)


def _expert(tasks: list[Task]) -> Shown:
    return "expert", [lambda env: NoisyExpert(env, noise=0.0)] * len(tasks), ["base"] * len(tasks)


def _checkpoint(path: str | None, device: str, tasks: list[Task]) -> Shown:
    """The checkpoint's policy, acting on each of the tasks."""
    if path is None:
        raise ValueError("checkpoint= is missing; give runs/<name>, a folder in its checkpoints/, or expert=true")
    folder = find_checkpoint(path).absolute()  # once: a run that goes on has newer ones
    policy, spec = load_policy(folder, device)
    learned = tasks_of(folder, spec)
    unknown = [task.label for task in tasks if task.label not in learned]
    if unknown:
        raise ValueError(f"{path} has not learned {unknown[0]!r}; choose env= from {', '.join(learned)}")
    title = f"{folder.parents[1].name}/{folder.name}"  # the run and its checkpoint
    actors = [_always(PolicyActor(policy, spec.tasks.index(task.label))) for task in tasks]
    return title, actors, [spec.input_frame(task.label) for task in tasks]


def _same_frame(task: Task, frames: list[str]) -> str:
    if len(set(frames)) > 1:
        raise ValueError(
            f"{task.label}: one acts in the {' frame, the other in the '.join(frames)} frame; film them apart"
        )
    return frames[0]


def _always(actor: Actor) -> MakeActor:
    return lambda env: actor


if __name__ == "__main__":
    main()
