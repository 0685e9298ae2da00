"""Film policies or an expert: `python -m tools.export_video checkpoint=runs/<name> env=can`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from reconverge.configs import commandline
from reconverge.configs.store import Command
from reconverge.envs.catalog import task_sequence
from reconverge.envs.film import ENCODINGS
from reconverge.envs.rollout import Rollout
from reconverge.envs.seeds import EVALUATION
from reconverge.envs.task import Task
from reconverge.errors import ReconvergeError
from reconverge.options import option
from reconverge.paths import check_output
from reconverge.policy.demonstrations.scripted import NoisyExpert
from reconverge.policy.reports.footage import Performer, film
from reconverge.policy.runs.loading import LoadedPolicy, load_policy


@dataclass(frozen=True)
class ExportVideoOptions:
    """Film policies or an expert."""

    env: list[str] = option([], "tasks to film, one file each: env=lift,can")
    checkpoint: str | None = option(
        None, "folder of a run (its newest checkpoint) or of one checkpoint", text="path"
    )
    compare: str | None = option(
        None,
        "another checkpoint, filmed beside it on the same seeds: "
        "checkpoint=runs/a/checkpoints/0_lift compare=runs/a/checkpoints/1_can",
        text="path",
    )
    expert: bool = option(False, "true: film the scripted expert instead of a checkpoint")
    n_episodes: int = option(
        4, "episodes, all at once in a grid; one that has ended holds its last picture", at_least=1
    )
    seed: int = option(
        EVALUATION.start,
        f"seed of the first episode; later ones count up; evaluation starts at {EVALUATION.start}",
        at_least=0,
    )
    output: str | None = option(
        None,
        "file to write, .mp4 or .gif, for one task (default: videos/<task>.mp4, with compare "
        "videos/<task>_compared.mp4)",
        text="path",
    )
    camera: str | None = option(
        None,
        "the simulator's name of the camera (default: the one that shows the task best)",
        text="free",
    )
    width: int = option(
        480,
        "width of an episode's picture in pixels, even; text is legible from 320 on",
        at_least=2,
    )
    height: int = option(360, "height of an episode's picture in pixels, even", at_least=2)
    device: str = option("cpu", "device of the policy: cpu | cuda | auto", text="free")


COMMAND = Command(
    "export_video",
    "python -m tools.export_video checkpoint=runs/<name> env=can n_episodes=4",
    ExportVideoOptions,
)


def main() -> None:
    commandline.run(COMMAND, run)


def run(options: ExportVideoOptions) -> None:
    """Write one film a task."""
    tasks = task_sequence(options.env)
    if options.output is not None and len(tasks) > 1:
        raise ReconvergeError(
            f"output={options.output} is one file for {len(tasks)} tasks; "
            "name one task, or leave it out"
        )
    if options.expert and options.checkpoint is not None:
        raise ReconvergeError(
            "expert=true films the expert in place of checkpoint=; leave one out, or give the "
            "policy as compare= to film it beside the expert"
        )
    suffix = "_compared" if options.compare else ""
    paths = [Path(options.output or f"videos/{task.label}{suffix}.mp4") for task in tasks]
    for path in paths:
        check_output(path, suffixes=ENCODINGS)
    seeds = range(options.seed, options.seed + options.n_episodes)
    casts = [
        [_expert(task) for task in tasks]
        if options.expert
        else _policy(load_policy(options.checkpoint, options.device), tasks)
    ]
    if options.compare is not None:
        casts.append(_policy(load_policy(options.compare, options.device), tasks))
    for path, task, *performers in zip(paths, tasks, *casts, strict=True):
        results = film(
            performers,
            path,
            seeds,
            camera=options.camera,
            width=options.width,
            height=options.height,
        )
        print(f"{path}: {len(seeds)} episodes of {task.name}, {_counts(results, performers)}")


def _expert(task: Task) -> Performer:
    return Performer("expert", task, lambda env: NoisyExpert(env, noise=0.0))


def _policy(loaded: LoadedPolicy, tasks: list[Task]) -> list[Performer]:
    def performer(task: Task) -> Performer:
        return Performer(loaded.title, task, lambda env: loaded.actor(task))

    return [performer(loaded.task(named.label)) for named in tasks]


def _counts(results: list[list[Rollout]], performers: list[Performer]) -> str:
    """Say how many of each performer's episodes were successful."""
    counts = [f"{sum(r.success for r in rollouts)} successful" for rollouts in results]
    if len(counts) == 1:
        return counts[0]
    return ", ".join(f"{c} of {p.title}" for c, p in zip(counts, performers, strict=True))


if __name__ == "__main__":
    main()
