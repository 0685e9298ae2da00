"""Time conversions of 1,000 episodes of 150 steps, with the arrays that tools.collect records.

`low_dim_to_store` is of a file with all 26 arrays of robomimic's lift/ph/low_dim and a model of its
own an episode.

python -m tools.benchmark.conversion
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import zarr

from reconverge.datasets.formats.demonstration_store import read_store, write_store
from reconverge.datasets.formats.diffusion_policy import read_diffusion_policy
from reconverge.datasets.formats.diffusion_policy_writer import write_diffusion_policy
from reconverge.datasets.formats.lerobot.reading import read_lerobot
from reconverge.datasets.formats.lerobot.writing import write_lerobot
from reconverge.datasets.formats.robomimic import read_robomimic
from reconverge.datasets.formats.robomimic_writer import write_robomimic
from reconverge.datasets.store import DemonstrationStore, Episode
from reconverge.datasets.windows import Windows
from reconverge.tools.benchmark.origin import origin, publish

EPISODES, STEPS, REPEATS = 1_000, 150, 3
KEYS = ("object", "robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos")
OBSERVATIONS = {
    "object": 10,
    "robot0_eef_pos": 3,
    "robot0_eef_quat": 4,
    "robot0_eef_vel_ang": 3,
    "robot0_eef_vel_lin": 3,
    "robot0_gripper_qpos": 2,
    "robot0_gripper_qvel": 2,
    "robot0_joint_pos": 7,
    "robot0_joint_pos_cos": 7,
    "robot0_joint_pos_sin": 7,
    "robot0_joint_vel": 7,
}


def main() -> None:
    """Time each conversion REPEATS times; print the quickest, by clock and processor, as JSON."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store, robomimic, lerobot = folder / "lift.zarr", folder / "lift.hdf5", folder / "lerobot"
        low_dim, buffer, out = folder / "low_dim.hdf5", folder / "buffer.zarr", folder / "out.zarr"
        archive = folder / "archive.zarr.zip"
        make_store(store, rng)
        make_robomimic(low_dim, rng)
        make_replay_buffer(buffer, DemonstrationStore.open(store))
        results = {
            "store_to_robomimic": timed(
                lambda: write_robomimic(read_store(store), robomimic), robomimic
            ),
            "robomimic_to_store": timed(lambda: write_store(read_robomimic(robomimic), out), out),
            "store_to_lerobot": timed(
                lambda: write_lerobot(read_store(store), lerobot, fps=20), lerobot
            ),
            "lerobot_to_store": timed(lambda: write_store(read_lerobot(lerobot), out), out),
            "store_to_diffusion_policy": timed(
                lambda: write_diffusion_policy(read_store(store), archive), archive
            ),
            "diffusion_policy_to_store": timed(
                lambda: write_store(read_diffusion_policy(buffer), out), out
            ),
            "low_dim_to_store": timed(lambda: write_store(read_robomimic(low_dim), out), out),
            "open_and_windows": timed(lambda: open_and_window(store)),
        }
        megabytes = {path.name: round(_bytes(path) / 1e6) for path in folder.iterdir()}
    size = {"episodes": EPISODES, "steps": EPISODES * STEPS, "megabytes": megabytes}
    made = origin(["h5py", "zarr", "pyarrow", "numpy"])
    made["command"] = "python -m tools.benchmark.conversion"
    publish({**made, "best_of": REPEATS, **results, **size})


def timed(work: Callable[[], object], target: Path | None = None) -> dict[str, float]:
    """Return the quickest of REPEATS times; `target` is deleted before each."""
    found = []
    for _ in range(REPEATS):
        if target and target.exists():
            shutil.rmtree(target) if target.is_dir() else target.unlink()
        clock, processor = time.perf_counter(), time.process_time()
        work()
        found.append((time.perf_counter() - clock, time.process_time() - processor))
    seconds, processor_seconds = min(found)
    return {"seconds": round(seconds, 2), "processor_seconds": round(processor_seconds, 2)}


def open_and_window(path: Path) -> Windows:
    """Do what a run does before it trains."""
    store = DemonstrationStore.open(path)
    return Windows.from_episodes(
        store.observations(KEYS), store.read(["action"])["action"], store.episode_ends, 2, 8
    )


def make_store(path: Path, rng: np.random.Generator) -> None:
    """Make a store of random numbers with the arrays of demonstrations of lift."""
    sizes = {key: OBSERVATIONS[key] for key in KEYS}
    ended = np.arange(STEPS) == STEPS - 1
    store = DemonstrationStore.create(
        path,
        sizes,
        7,
        {"task": "lift"},
        extra_sizes={"executed_action": 7},
        scalar_types={"seed": "int64"},
    )
    store.extend(
        Episode(
            observations={
                key: rng.standard_normal((STEPS, size), np.float32) for key, size in sizes.items()
            },
            action=rng.standard_normal((STEPS, 7), np.float32),
            reward=ended.astype(np.float32),
            success=ended,
            extras={"executed_action": rng.standard_normal((STEPS, 7), np.float32)},
            scalars={"seed": i},
        )
        for i in range(EPISODES)
    )


def make_robomimic(path: Path, rng: np.random.Generator) -> None:
    """Make a file of random numbers with the arrays of robomimic's lift/ph/low_dim."""
    env_args = {
        "env_name": "Lift",
        "env_version": "1.4.1",
        "type": 1,
        "env_kwargs": {"control_freq": 20},
    }
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        for i in range(EPISODES):
            demo = data.create_group(f"demo_{i}")
            demo.attrs["num_samples"] = STEPS
            demo.attrs["model_file"] = f"<mujoco>{'<geom/>' * 2_000}{i}</mujoco>"
            for key, size in OBSERVATIONS.items():
                rows = rng.standard_normal((STEPS + 1, size))
                demo[f"obs/{key}"], demo[f"next_obs/{key}"] = rows[:-1], rows[1:]
            demo["actions"] = rng.uniform(-1, 1, (STEPS, 7))
            demo["states"] = rng.standard_normal((STEPS, 32))
            demo["rewards"] = (np.arange(STEPS) == STEPS - 1).astype(np.float64)
            demo["dones"] = (np.arange(STEPS) == STEPS - 1).astype(np.int64)
        data.attrs["total"] = EPISODES * STEPS
        data.attrs["env_args"] = json.dumps(env_args)


def make_replay_buffer(path: Path, store: DemonstrationStore) -> None:
    """Write the arrays of the store in diffusion_policy's layout."""
    root = zarr.open_group(path, mode="w", zarr_format=2)
    for name, rows in store.read(
        [*store.observation_sizes, "action", "executed_action", "reward"]
    ).items():
        root.create_array(f"data/{name}", data=rows, chunks=(STEPS * 10, *rows.shape[1:]))
    root.create_array("meta/episode_ends", data=store.episode_ends)


def _bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in (path, *path.rglob("*")) if file.is_file())


if __name__ == "__main__":
    main()
