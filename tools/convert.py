"""Convert demonstrations between formats.

python -m tools.convert source=low_dim_v141.hdf5 target=demonstrations/lift.zarr
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reconverge.configs import commandline
from reconverge.configs.store import Command
from reconverge.datasets.formats.arrays import ConversionError
from reconverge.datasets.formats.download import SCHEME, download
from reconverge.datasets.formats.env_args import FRAMES
from reconverge.datasets.formats.exchange import Demonstrations, dictionary
from reconverge.datasets.formats.table import FORMATS, Format, source_format, target_format
from reconverge.envs.catalog import simulated_by
from reconverge.errors import ReconvergeError, unknown
from reconverge.options import option
from reconverge.progress import progress_bar


@dataclass(frozen=True)
class ConvertOptions:
    """Convert one set of demonstrations."""

    source: str = option(
        "",
        "what to read: .hdf5 of robomimic, robomimic://lift/ph/low_dim, a store, .zarr or "
        ".zarr.zip of diffusion_policy, or a LeRobot folder",
    )
    target: str = option(
        "",
        "what to make: demonstrations/<task>.zarr, a .hdf5 for robomimic, a .zarr.zip for "
        "diffusion_policy, or a folder for LeRobot",
    )
    source_format: str | None = option(
        None, f"format of source: {' | '.join(FORMATS)} (default: told from the path)"
    )
    target_format: str | None = option(
        None, f"format of target: {' | '.join(FORMATS)} (default: told from the path)"
    )
    filter: str | None = option(
        None, "only the episodes of this mask/<filter> of robomimic, or of this task of LeRobot"
    )
    leave_out: list[str] = option(
        [], "arrays not to convert, such as pictures: leave_out=[agentview_image]"
    )
    task: str | None = option(None, "name of the task to record (default: as the source says)")
    input_frame: str | None = option(
        None,
        "frame of the actions to record: world | base (default: as the source says)",
        choices=FRAMES,
    )
    fps: int | None = option(
        None, "control steps a second, for LeRobot (default: as the source says)", at_least=1
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
    name = options.target_format or target_format(target)
    kind = _find("target_format", name)
    if options.fps is not None and "fps" not in kind.write_options:
        raise ReconvergeError(f"fps={options.fps}: a {name} records none; leave it out")
    written = {} if options.fps is None else {"fps": options.fps}
    with open_source(options) as demonstrations:
        if not demonstrations.count:
            raise ConversionError(f"{options.source}: holds no episode; choose another source")
        shown = progress_bar(
            target.name, "episode", demonstrations.count, over=demonstrations.episodes
        )
        with shown as bar:
            attributes = _attributes(demonstrations, options)
            counted = replace(demonstrations, episodes=iter(bar), attributes=attributes)
            kind.write(counted, target, **written)
    print(f"{target}: {demonstrations.count} episodes as {name}")


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
        chosen = {} if options.filter is None else {"filter_key": options.filter}
        yield stack.enter_context(kind.read(path, leave_out=options.leave_out, **chosen))


def _attributes(demonstrations: Demonstrations, options: ConvertOptions) -> dict[str, Any]:
    """Add the task and the frame of the options, or the task of the recorded environment."""
    attributes = dict(demonstrations.attributes)
    environment = dictionary(attributes, "env_args").get("env_name")
    known = simulated_by(environment)
    task = options.task or attributes.get("task") or (known.name if known else environment)
    stated = {"task": task, "input_frame": options.input_frame or attributes.get("input_frame")}
    return {**attributes, **{name: value for name, value in stated.items() if value}}


if __name__ == "__main__":
    main()
