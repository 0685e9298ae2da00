"""Convert demonstrations: `python -m tools.convert source=low_dim_v141.hdf5 target=demonstrations/lift.zarr`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from tqdm import tqdm

from configs import commandline
from datasets.diffusion_policy import read_diffusion_policy
from datasets.diffusion_policy_writer import write_diffusion_policy
from datasets.exchange import ConversionError, Demonstrations, mapping, read_store, write_store
from datasets.lerobot_v3 import read_lerobot
from datasets.lerobot_writer import write_lerobot
from datasets.robomimic import read_robomimic, write_robomimic
from datasets.robomimic_download import SCHEME, downloaded
from datasets.robomimic_env import FRAMES
from envs.tasks import simulated_by

FORMATS = ("robomimic", "store", "diffusion_policy", "lerobot")
HDF5 = (".hdf5", ".h5")


def main() -> None:
    commandline.run("convert", run)


def run(config: DictConfig) -> None:
    """Convert one set of demonstrations, then say what was made."""
    for name in ("source", "target"):
        if not config[name]:
            raise ValueError(f"{name}= is missing; give a path, see --help")
    if config.input_frame not in (None, *FRAMES):
        raise ValueError(f"input_frame={config.input_frame}: choose from {', '.join(FRAMES)}")
    if config.fps is not None and (not isinstance(config.fps, int) or config.fps < 1):
        raise ValueError(f"fps={config.fps}: must be a whole number, at least 1")
    target = Path(config.target)
    kind = _chosen("target_format", config.target_format or target_format(target), FORMATS)
    if config.fps is not None and kind != "lerobot":
        raise ValueError(f"fps={config.fps}: a {kind} records none; leave it out")
    with opened(config) as demonstrations:
        if not demonstrations.count:
            raise ConversionError(f"{config.source}: holds no episode; choose another source")
        described = replace(demonstrations, attributes=_attributes(demonstrations, config))
        write(described, target, kind, config.fps)
    print(f"{target}: {demonstrations.count} episodes as {kind}")


def _chosen(option: str, name: str, legal: tuple[str, ...]) -> str:
    if name not in legal:
        raise ValueError(f"{option}={name}: choose from {', '.join(legal)}")
    return name


def source_format(path: Path) -> str:
    """The format of what is at a path; ValueError where it cannot be told."""
    if path.suffix in HDF5:
        return "robomimic"
    if path.suffix == ".zip" or (path / ".zgroup").exists():
        return "diffusion_policy"
    if path.suffix == ".zarr" or (path / "zarr.json").exists():
        return "store"
    if (path / "meta").is_dir():
        return "lerobot"
    what = "its format cannot be told" if path.exists() else "is not there"
    raise ValueError(f"source={path}: {what}; give another path, or source_format= one of {', '.join(FORMATS)}")


def target_format(path: Path) -> str:
    """The format to make at a path; ValueError where its name does not tell."""
    if path.suffix in HDF5:
        return "robomimic"
    if path.suffix == ".zarr":
        return "store"
    if path.suffix == ".zip":
        return "diffusion_policy"
    if not path.suffix:
        return "lerobot"
    legal = ".zarr (store), .hdf5 (robomimic), .zarr.zip (diffusion_policy) or nothing (LeRobot)"
    raise ValueError(f"target={path}: its format cannot be told; end it with {legal}")


@contextmanager
def opened(config: DictConfig) -> Iterator[Demonstrations]:
    """What source= names."""
    source, leave_out = str(config.source), list(config.leave_out)
    if source.startswith(SCHEME):
        with downloaded(source) as path:
            yield read_robomimic(path, config.filter, leave_out)
        return
    path = Path(source)
    kind = _chosen("source_format", config.source_format or source_format(path), FORMATS)
    if config.filter is not None and kind not in ("robomimic", "lerobot"):
        raise ValueError(f"filter={config.filter}: a {kind} has no filter keys; leave it out")
    if kind == "diffusion_policy":
        with read_diffusion_policy(path, leave_out) as demonstrations:
            yield demonstrations
    elif kind == "robomimic":
        yield read_robomimic(path, config.filter, leave_out)
    elif kind == "lerobot":
        yield read_lerobot(path, config.filter, leave_out)
    else:
        yield read_store(path, leave_out)


def write(demonstrations: Demonstrations, target: Path, kind: str, fps: int | None) -> None:
    """Make the target behind a progress bar."""
    with tqdm(demonstrations.episodes, total=demonstrations.count, desc=target.name, unit="episode") as bar:
        counted = replace(demonstrations, episodes=iter(bar))
        if kind == "robomimic":
            write_robomimic(counted, target)
        elif kind == "lerobot":
            write_lerobot(counted, target, fps)
        elif kind == "diffusion_policy":
            write_diffusion_policy(counted, target)
        else:
            write_store(counted, target)


def _attributes(demonstrations: Demonstrations, config: DictConfig) -> dict[str, Any]:
    """The attributes with what the options state, and with the task that an environment's name tells."""
    attributes = dict(demonstrations.attributes)
    environment = mapping(attributes, "env_args").get("env_name")
    known = simulated_by(environment)
    task = config.task or attributes.get("task") or (known.name if known else environment)
    stated = {"task": task, "input_frame": config.input_frame or attributes.get("input_frame")}
    return {**attributes, **{name: value for name, value in stated.items() if value}}


if __name__ == "__main__":
    main()
