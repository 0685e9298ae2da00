"""Convert demonstrations between formats.

python -m tools.convert source=low_dim_v141.hdf5 target=demonstrations/lift.zarr
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from reconverge.configs import commandline
from reconverge.configs.store import Command
from reconverge.datasets.checks import actions_beyond
from reconverge.datasets.formats.arrays import ConversionError
from reconverge.datasets.formats.download import SCHEME, download
from reconverge.datasets.formats.env_args import FRAMES, convention
from reconverge.datasets.formats.exchange import Demonstrations, dictionary
from reconverge.datasets.formats.pictures.sizes import check_space, resized, without_pictures
from reconverge.datasets.formats.split import parse_split, split
from reconverge.datasets.formats.table import FORMATS, PNG, Format, source_format, target_format
from reconverge.datasets.layout import Episode
from reconverge.envs.catalog import find_task, simulated_by
from reconverge.errors import ReconvergeError, unknown
from reconverge.files import check_free
from reconverge.options import option
from reconverge.paths import check_output
from reconverge.policy.demonstrations.fit import misfit
from reconverge.policy.demonstrations.observing import observed
from reconverge.process import printable
from reconverge.progress import progress_bar


@dataclass(frozen=True)
class ConvertOptions:
    """Convert one set of demonstrations."""

    source: str = option(
        "",
        "what to read: .hdf5 of robomimic, LIBERO, D4RL or Minari, robomimic://lift/ph/low_dim, "
        "a store, .zarr or .zarr.zip of diffusion_policy, or a folder of LeRobot or Minari",
        text="path",
    )
    target: str = option(
        "",
        "what to make: demonstrations/<task>.zarr, a .hdf5 for robomimic, a .zarr.zip for "
        "diffusion_policy, or a folder for LeRobot",
        text="path",
    )
    source_format: str | None = option(
        None, f"format of source: {' | '.join(FORMATS)} (default: told from the path)", text="free"
    )
    target_format: str | None = option(
        None, f"format of target: {' | '.join(FORMATS)} (default: told from the path)", text="free"
    )
    filter: str | None = option(
        None,
        "only the episodes of this mask/<filter> of robomimic, or of this task of LeRobot",
        text="free",
    )
    leave_out: list[str] = option(
        [], "arrays not to convert: leave_out=[robot0_joint_pos,agentview_image]", text="free"
    )
    pictures: bool = option(True, "false: leave all pictures out")
    picture_size: int | None = option(
        None,
        "height and width of pictures, in pixels; others are squeezed (default: as they are)",
        at_least=1,
        at_most=4096,
    )
    task: str | None = option(
        None, "name of the task to record (default: as the source says)", text="free"
    )
    split: str | None = option(
        None,
        "observations to make of the numbers of a vector: "
        "split=observation.state=robot0_eef_pos:3,robot0_eef_quat:4 (';' before the next vector)",
        text="free",
    )
    observations: str = option(
        "source",
        "source: as they were recorded | states: those of the task, which its simulator makes of "
        "the recorded states",
        choices=("source", "states"),
    )
    input_frame: str | None = option(
        None,
        "frame of the actions to record: world | base (default: as the source says)",
        choices=FRAMES,
    )
    fps: int | None = option(
        None, "control steps a second, for LeRobot (default: as the source says)", at_least=1
    )
    videos: bool = option(
        True,
        "true: pictures become LeRobot's videos, which changes them a little | false: kept "
        "exactly, as PNG in LeRobot's tables",
    )


COMMAND = Command(
    "convert",
    "python -m tools.convert source=low_dim_v141.hdf5 target=demonstrations/lift.zarr",
    ConvertOptions,
)


def main() -> None:
    commandline.run(COMMAND, run)


def run(options: ConvertOptions) -> None:
    """Convert one set of demonstrations, then say what was made."""
    _check(options)
    target = Path(options.target)
    check_free(target)
    check_output(target, "target")
    name = options.target_format or target_format(target)
    kind = _find("target_format", name)
    if kind.write is None:
        raise ReconvergeError(f"target_format={name}: is only read; choose another")
    chosen = {"fps": options.fps} if options.fps else {}
    chosen |= {} if options.videos else {"videos": False}
    for option_, value in chosen.items():
        if option_ not in kind.write_options:
            raise ReconvergeError(
                f"{option_}={str(value).lower()}: a {name} records none; leave it out"
            )
    with open_source(options) as demonstrations:
        if not demonstrations.count:
            raise ConversionError(f"{options.source}: holds no episode; choose another source")
        if not kind.picture_share:
            demonstrations = without_pictures(demonstrations, f"a {name} is written without")
        check_space(demonstrations, kind.picture_share if options.videos else PNG, target)
        attributes = _attributes(demonstrations, options)
        if options.observations == "states":
            demonstrations = observed(demonstrations, find_task(str(attributes.get("task"))))
        shown = progress_bar(
            target.name, "episode", demonstrations.count, over=demonstrations.episodes
        )
        with shown as bar:
            actions: list[np.ndarray] = []
            episodes = _noting_actions(bar, actions)
            counted = replace(demonstrations, episodes=episodes, attributes=attributes)
            kind.write(counted, target, **chosen)
    for line in _unfit(attributes, actions):
        print(f"warning: {target}: {printable(line)}; training refuses it", file=sys.stderr)
    for line in (*demonstrations.warnings, *_unknown(attributes)):
        print(f"warning: {options.source}: {printable(line)}", file=sys.stderr)
    print(f"{target}: {demonstrations.count} episodes as {name}")


def _noting_actions(
    episodes: Iterable[tuple[Episode, dict[str, Any]]], actions: list[np.ndarray]
) -> Iterator[tuple[Episode, dict[str, Any]]]:
    for episode, own in episodes:
        actions.append(episode.action)
        yield episode, own


def _unfit(attributes: Mapping[str, Any], actions: list[np.ndarray]) -> Iterator[str]:
    """Say in lines why the task that the attributes name does not learn from these actions."""
    task = find_task(str(attributes.get("task")))
    if task is None:
        return
    ends = np.cumsum([len(rows) for rows in actions])
    beyond = actions_beyond(np.concatenate(actions), ends)
    yield from filter(None, (misfit(attributes, task), beyond))


def _check(options: ConvertOptions) -> None:
    for name in ("source", "target"):
        if not getattr(options, name):
            raise ReconvergeError(f"{name}= is missing; give a path, see --help")


def _find(option: str, name: str) -> Format:
    if name not in FORMATS:
        raise unknown(option, name, FORMATS)
    return FORMATS[name]


@contextmanager
def open_source(options: ConvertOptions) -> Iterator[Demonstrations]:
    """Yield what source= names, downloaded if it is one of robomimic's addresses."""
    with ExitStack() as stack:
        if options.source.startswith(SCHEME):
            path, name = stack.enter_context(download(options.source)), "robomimic"
        else:
            path = Path(options.source)
            name = options.source_format or source_format(path)
        kind = _find("source_format", name)
        if options.filter is not None and "filter_key" not in kind.read_options:
            raise ReconvergeError(
                f"filter={options.filter}: a {name} has no filter keys; leave it out"
            )
        wanted = {
            "filter_key": options.filter,
            "pictures": options.pictures,
            "picture_size": options.picture_size,
        }
        chosen = {n: value for n, value in wanted.items() if n in kind.read_options}
        found = kind.read(path, leave_out=options.leave_out, **chosen)
        found = resized(found, options.picture_size) if options.picture_size else found
        yield split(found, parse_split(options.split)) if options.split else found


def _attributes(demonstrations: Demonstrations, options: ConvertOptions) -> dict[str, Any]:
    """Add the task and the frame of the options, or the task of the recorded environment, and what
    its actions mean.
    """
    attributes = dict(demonstrations.attributes)
    environment = dictionary(attributes, "env_args").get("env_name")
    known = simulated_by(environment)
    task = options.task or attributes.get("task") or (known.name if known else environment)
    meaning = attributes.get("convention") or convention(dictionary(attributes, "env_args"))
    stated = {
        "task": task,
        "input_frame": options.input_frame or attributes.get("input_frame"),
        "convention": meaning,
    }
    return {**attributes, **{name: value for name, value in stated.items() if value}}


def _unknown(attributes: dict[str, Any]) -> Iterator[str]:
    """Yield a line if robomimic's demonstrations do not say what they are of."""
    robomimic = "robomimic" in attributes and "env_args" not in attributes
    lacking = {"task": "the task", "input_frame": "the frame of the actions"}
    unknown = [what for name, what in lacking.items() if name not in attributes]
    if robomimic and unknown:
        yield (
            f"has no env_args: {' and '.join(unknown)} cannot be told; give "
            "task=lift and input_frame=base (robosuite 1.5) or input_frame=world (before)"
        )


if __name__ == "__main__":
    main()
