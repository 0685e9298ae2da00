"""How long conversions take: 1,000 episodes of 150 steps, with the arrays that tools.collect records.

`low_dim_to_store` is of a file with all 26 arrays of robomimic's lift/ph/low_dim and a model of its own an episode.

python -m tools.benchmark.convert
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import h5py
import numpy as np

from datasets.exchange import read_store, write_store
from datasets.lerobot_v3 import read_lerobot
from datasets.lerobot_writer import write_lerobot
from datasets.robomimic import read_robomimic, write_robomimic
from datasets.store import DemonstrationStore, Episode
from datasets.windows import Windows
from policy.record import hardware

EPISODES, STEPS = 1_000, 150
KEYS = ("object", "robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos")
OBSERVATIONS = {
    "object": 10, "robot0_eef_pos": 3, "robot0_eef_quat": 4, "robot0_eef_vel_ang": 3, "robot0_eef_vel_lin": 3,
    "robot0_gripper_qpos": 2, "robot0_gripper_qvel": 2, "robot0_joint_pos": 7, "robot0_joint_pos_cos": 7,
    "robot0_joint_pos_sin": 7, "robot0_joint_vel": 7,
}  # fmt: skip


def main() -> None:
    """Each conversion once; prints one JSON line with seconds on the clock and of the processor."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store, robomimic, lerobot = folder / "lift.zarr", folder / "lift.hdf5", folder / "lerobot"
        make_store(store, rng)
        make_robomimic(folder / "low_dim.hdf5", rng)
        results = {
            "store_to_robomimic": timed(lambda: write_robomimic(read_store(store), robomimic)),
            "robomimic_to_store": timed(lambda: write_store(read_robomimic(robomimic), folder / "a.zarr")),
            "store_to_lerobot": timed(lambda: write_lerobot(read_store(store), lerobot, fps=20)),
            "lerobot_to_store": timed(lambda: write_store(read_lerobot(lerobot), folder / "b.zarr")),
            "open_and_windows": timed(lambda: open_and_window(store)),
            "low_dim_to_store": timed(lambda: write_store(read_robomimic(folder / "low_dim.hdf5"), folder / "c.zarr")),
        }
        megabytes = {path.name: round(_bytes(path) / 1e6) for path in folder.iterdir()}
    packages = {package: version(package) for package in ("h5py", "zarr", "pyarrow", "numpy")}
    size = {"episodes": EPISODES, "steps": EPISODES * STEPS, "megabytes": megabytes}
    print(json.dumps({**results, **size, "versions": packages, "hardware": hardware()}))


def timed(work: Callable[[], object]) -> dict[str, float]:
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return {
        "seconds": round(time.perf_counter() - clock, 2),
        "processor_seconds": round(time.process_time() - processor, 2),
    }


def open_and_window(path: Path) -> Windows:
    """What a run does before it trains."""
    store = DemonstrationStore.open(path)
    return Windows.from_episodes(store.observations(KEYS), store.read(["action"])["action"], store.episode_ends, 2, 8)


def make_store(path: Path, rng: np.random.Generator) -> None:
    """A store of random numbers with the arrays of demonstrations of lift."""
    sizes = {key: OBSERVATIONS[key] for key in KEYS}
    ended = np.arange(STEPS) == STEPS - 1
    store = DemonstrationStore.create(
        path, sizes, 7, {"task": "lift"}, extra_sizes={"executed_action": 7}, scalar_types={"seed": "int64"}
    )
    store.extend(
        Episode(
            observations={key: rng.standard_normal((STEPS, size), np.float32) for key, size in sizes.items()},
            action=rng.standard_normal((STEPS, 7), np.float32),
            reward=ended.astype(np.float32),
            success=ended,
            extras={"executed_action": rng.standard_normal((STEPS, 7), np.float32)},
            scalars={"seed": i},
        )
        for i in range(EPISODES)
    )


def make_robomimic(path: Path, rng: np.random.Generator) -> None:
    """A file of random numbers with the arrays of robomimic's lift/ph/low_dim."""
    env_args = {"env_name": "Lift", "env_version": "1.4.1", "type": 1, "env_kwargs": {"control_freq": 20}}
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


def _bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in (path, *path.rglob("*")) if file.is_file())


if __name__ == "__main__":
    main()
