"""Films of policies and experts on a task: one, or several side by side on the same seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reconverge.envs.film import LAST_PICTURE_FRAMES, FilmedEnv, open_video
from reconverge.envs.render.captions import Grid
from reconverge.envs.rollout import Actor, Rollout, rollout
from reconverge.envs.side_by_side import SideBySide
from reconverge.envs.task import Task
from reconverge.envs.vector import VectorEnv
from reconverge.errors import ReconvergeError
from reconverge.progress import progress_bar


@dataclass(frozen=True)
class Performer:
    """One whose episodes a film shows: its name, the task as it acts on it, and what acts."""

    title: str
    task: Task
    make_actor: Callable[[VectorEnv], Actor]


def film(
    performers: Sequence[Performer],
    path: Path,
    seeds: range,
    *,
    camera: str | None = None,
    width: int = 640,
    height: int = 480,
) -> list[list[Rollout]]:
    """Film one episode a seed, all at once in a grid of pictures of `width` x `height` pixels.

    Several performers act on the same task and seeds, their grids side by side under their titles.
    Returns the rollouts of each. RenderError if no film can be made; ReconvergeError for
    performers whose actions are in different frames or whose observations differ.
    """
    task = performers[0].task
    frames = [performer.task.input_frame for performer in performers]
    if len(set(frames)) > 1:
        raise ReconvergeError(
            f"{task.label}: one acts in the {' frame, the other in the '.join(frames)} frame; "
            "film each on its own"
        )
    seen = {(*p.task.observations, p.task.sight and p.task.sight.name) for p in performers}
    if len(seen) > 1:
        raise ReconvergeError(
            f"{task.label}: they do not observe the same (observations=, cameras=, encoder=); "
            "film each on its own"
        )
    titles = tuple(p.title for p in performers) if len(performers) > 1 else ()
    size = Grid(len(seeds), width, height, titles).size
    ended: dict[int, Rollout] = {}
    with (
        open_video(path, width=size[0], height=size[1]) as show,
        progress_bar(task.name, "frame") as bar,
    ):

        def show_and_count(frame: np.ndarray) -> None:
            show(frame)
            bar.update()

        def count(result: Rollout) -> None:
            ended[result.slot] = result
            successful = sum(r.success for r in ended.values())
            bar.set_postfix(ended=len(ended), successful=successful, refresh=False)

        env = FilmedEnv(
            task,
            show_and_count,
            camera=camera,
            width=width,
            height=height,
            episodes=len(seeds),
            titles=titles,
        )
        with env:
            bar.total = task.max_steps // env.steps_per_frame + LAST_PICTURE_FRAMES
            actor = _together([performer.make_actor(env) for performer in performers], len(seeds))
            rollout(env, actor, [*seeds] * len(performers), count)
        bar.total = bar.n  # the episodes may end before max_steps
    results = [ended[slot] for slot in sorted(ended)]
    return [results[i : i + len(seeds)] for i in range(0, len(results), len(seeds))]


def _together(actors: list[Actor], slots: int) -> Actor:
    return actors[0] if len(actors) == 1 else SideBySide(actors, slots)
