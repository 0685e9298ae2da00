"""What is damaged: how it is made, and all that its consumers take from it."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reconverge.datasets.checks import dimensions, findings
from reconverge.datasets.formats.demonstration_store import write_store
from reconverge.datasets.formats.diffusion_policy_writer import write_diffusion_policy
from reconverge.datasets.formats.lerobot.writing import write_lerobot
from reconverge.datasets.formats.robomimic import read_robomimic
from reconverge.datasets.formats.robomimic_writer import write_robomimic
from reconverge.datasets.formats.table import FORMATS
from reconverge.datasets.images.picture_store import open_store
from reconverge.datasets.images.supplied import supply
from reconverge.datasets.store import DemonstrationStore, Episode
from reconverge.policy.deployment.package import load_package
from reconverge.policy.images.judge import judge_of
from reconverge.policy.reports.rows.comparison import comparison_tables
from reconverge.policy.reports.rows.groups import group
from reconverge.policy.reports.run import read_run
from reconverge.policy.runs.checkpoint import Checkpoint, load, newest, save
from reconverge.policy.runs.folder import record_options, recorded_options
from reconverge.policy.runs.loading import load_policy
from reconverge.policy.runs.summary import read_summary
from reconverge.seal import signed
from support.foreign import make_robomimic
from support.logged_run import interrupted, resumed
from support.picture_files import make_folders
from support.summaries import two_tasks, write_summary
from support.tiny_checkpoint import make_checkpoint
from support.tiny_run import export, make_options


@dataclass(frozen=True)
class Subject:
    """A file or folder: `make` makes it in an empty folder, `read` reads all that is used of it."""

    make: Callable[[Path], Path]
    read: Callable[[Path], Any]


def make_run(folder):
    """A run that has learned two tasks."""
    for index, name in enumerate(("lift", "can")):
        made = make_checkpoint(folder / "elsewhere", name, index=index, seed=index)
        state = {f"moments/{i}": torch.rand(50) for i in range(4)}
        manifest = load(made.path).manifest | {"name": f"{index}_{name}"}
        saved = Checkpoint(made.policy.state_dict(), state, manifest)
        save(folder / "run" / "checkpoints", index, name, None, saved)
    return folder / "run"


def read_checkpoints(run):
    """What evaluation and resuming read, and what an earlier checkpoint gives."""
    loaded = load_policy(run)
    found = [loaded.spec, loaded.policy.state_dict(), newest(run / "checkpoints").name]
    return found + [load(run / "checkpoints" / name) for name in ("0_lift", "1_can")]


def make_package(folder):
    export(make_checkpoint(folder / "checkpoints").path, folder / "exported")
    return folder / "exported"


def read_package(folder):
    """What its contracts say, and what it does."""
    package = load_package(folder, threads=1)
    one = package.contracts[1]
    feed = {
        "observations": np.zeros((1, one.n_obs_steps, one.padded_observation_size), np.float32),
        "task": np.array([one.index]),
        "noise": np.ones((1, one.horizon, one.padded_action_size), np.float32),
    }
    return [package.spec, package.contracts, package.sampler.run(None, feed)]


def make_config(folder):
    record_options(make_options(), folder / "run")
    return folder / "run"


def make_finished(folder):
    """A run's summary.json and metrics.jsonl."""
    run = write_summary(folder / "run", signed(two_tasks()))
    interrupted(run, "none")
    resumed(run, "none")
    shutil.rmtree(run / "tensorboard")
    return run


def read_finished(run):
    """What its report and comparisons read."""
    groups = group([read_summary(run)])
    return [read_run(run), comparison_tables(groups, None)]


def converted(write, name):
    """Robomimic's demonstrations as another format."""

    def make(folder):
        source = make_robomimic(folder / "source.hdf5")
        write(read_robomimic(source), folder / name)
        return folder / name

    return make


def read_store(path):
    """What training and check_store read."""
    store = DemonstrationStore.open(path)
    described = dimensions(store, {})
    found = findings(store, described, None)
    return [store.attributes, store.episode_ends, store.read(), store.scalars(), described, found]


def make_seen(folder):
    """A store with what two cameras saw."""
    cameras, rng = {"agentview": (6, 8, 3), "eye_in_hand": (4, 4, 3)}, np.random.default_rng(0)
    store = DemonstrationStore.create(
        folder / "seen.zarr", {"x": 2}, 1, {}, absent=("success",), pictures=cameras
    )
    for length in (5, 1, 17):
        seen = {
            camera: rng.integers(0, 256, (length, *shape), np.uint8)
            for camera, shape in cameras.items()
        }
        values = rng.standard_normal((length, 4), np.float32)
        store.append(Episode({"x": values[:, :2]}, values[:, 2:3], values[:, 3], pictures=seen))
    return folder / "seen.zarr"


def make_filmed(folder):
    """The same as a LeRobot dataset with videos."""
    write_lerobot(FORMATS["store"].read(make_seen(folder)), folder / "filmed", fps=20)
    return folder / "filmed"


def read_seen(path):
    """All of it, its pictures too."""
    return [read_store(path), [*DemonstrationStore.open(path).episodes()]]


def make_pictures(folder):
    """Pictures to generate, and the classifier that judges generated ones beside them."""
    made = folder / "made"
    judge_of(supply(str(make_folders(folder / "shapes")), 8, made))
    return made


def read_pictures(folder):
    store = open_store(folder / "shapes_8.zarr")
    judge = judge_of(store)
    return [store, judge.classifier.state_dict(), judge.accuracy]


def reading(name):
    """What conversion reads."""

    def read(path):
        found = FORMATS[name].read(path)
        return [found.observation_sizes, found.attributes, [*found.episodes]]

    return read


SUBJECTS = {
    "checkpoint": Subject(make_run, read_checkpoints),
    "package": Subject(make_package, read_package),
    "store": Subject(converted(write_store, "lift.zarr"), read_store),
    "seen": Subject(make_seen, read_seen),
    "pictures": Subject(make_pictures, read_pictures),
    "config": Subject(make_config, recorded_options),
    "finished": Subject(make_finished, read_finished),
    "robomimic": Subject(converted(write_robomimic, "lift.hdf5"), reading("robomimic")),
    "lerobot": Subject(converted(write_lerobot, "lift"), reading("lerobot")),
    "filmed": Subject(make_filmed, reading("lerobot")),
    "diffusion_policy": Subject(
        converted(write_diffusion_policy, "lift.zip"), reading("diffusion_policy")
    ),
}
