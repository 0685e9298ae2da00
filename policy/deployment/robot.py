"""An exported policy on a robot: this file needs numpy and onnxruntime, nothing else.

::

    from robot import Policy

    policy = Policy("exported", task="lift")
    policy.reset(seed=0)  # a new episode
    while running:
        robot.act(policy.act(robot.observe()))  # once a control step

An observation is a map of the keys in the package's config.json: numbers in their own units, and
pictures uint8 [H, W, 3], the top row first, red, green and blue. Keys that the task lacks do not
count. Anything else that differs is a ValueError and leaves the episode unchanged.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime


class Policy:
    """One episode at a time of one task.

    `folder`: of the package. `task`: may be left out where there is one. `threads`: cores (0: all).
    """

    def __init__(self, folder: Path | str, task: str | None = None, threads: int = 0):
        folder = Path(folder)
        tasks = json.loads((folder / "config.json").read_text("utf-8"))["tasks"]
        contracts = {contract["task"]: contract for contract in tasks}
        task = next(iter(contracts)) if task is None and len(contracts) == 1 else task
        if not isinstance(task, str) or task not in contracts:
            raise ValueError(f"task={task}: must be one of {', '.join(contracts)}")
        self.contract: dict[str, Any] = contracts[task]
        self._sampler = _open(folder / "sampler.onnx", threads)
        pictures = self.contract["pictures"]
        self._as_pixels = any(picture.get("as_pixels", False) for picture in pictures)
        if pictures and not self._as_pixels:
            self._encoder = _open(folder / "encoder.onnx", threads)
        self.reset(seed=0)

    def reset(self, seed: int) -> None:
        """Start an episode; the same seed and observations give the same actions."""
        self._random = np.random.default_rng(seed)
        self._history: deque[np.ndarray] = deque(maxlen=self.contract["n_obs_steps"])
        self._actions: list[np.ndarray] = []

    def act(self, observation: Mapping[str, Any]) -> np.ndarray:
        """Return the action [Da] of this control step: the next of the chunk, or of a new one."""
        flat = self.flatten(observation)
        self._history.extend([flat] * (1 if self._history else self.contract["n_obs_steps"]))
        if not self._actions:
            shape = 1, self.contract["horizon"], self.contract["padded_action_size"]
            noise = self._random.standard_normal(shape, dtype=np.float32)
            self._actions = list(self.plan(np.stack(self._history), noise[0]))
        return self._actions.pop(0)

    def plan(self, history: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Return the actions [Ta, Da] to execute after a history [To, Do], from noise [Tp, Da]."""
        task = np.array([self.contract["index"]])
        inputs = {"observations": history[None], "task": task, "noise": noise[None]}
        (actions,) = self._sampler.run(None, inputs)
        return actions[0, : self.contract["n_action_steps"], : self.contract["action_size"]]

    def flatten(self, observation: Mapping[str, Any]) -> np.ndarray:
        """Return [Do]: numbers clipped to their bounds, features of the pictures, zeros; or zeros,
        and the pictures themselves.
        """
        entries, wanted = self.contract["observation"], self.contract["pictures"]
        keys = [entry["key"] for entry in (*entries, *wanted)]
        if not isinstance(observation, Mapping):
            kind = type(observation).__name__
            raise ValueError(f"observation is a {kind}; give a map of {', '.join(keys)}")
        missing = [key for key in keys if key not in observation]
        if missing:
            raise ValueError(f"observation lacks {', '.join(missing)}; give {', '.join(keys)}")
        told = [_numbers(observation[entry["key"]], entry) for entry in entries]
        pictures = [_picture(observation[entry["key"]], entry) for entry in wanted]
        if self._as_pixels:
            shown = [picture.ravel().astype(np.float32) for picture in pictures]
        elif wanted:
            shown = list(self._encoder.run(None, {"pictures": np.stack(pictures)})[0])
        else:
            shown = []
        size = self.contract["padded_observation_size"] - sum(map(len, (*told, *shown)))
        zeros = np.zeros(size, np.float32)
        last = [zeros, *shown] if self._as_pixels else [*shown, zeros]
        return np.concatenate([*told, *last])


def _numbers(value: Any, entry: dict[str, Any]) -> np.ndarray:
    try:
        numbers = np.asarray(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        numbers = np.array(np.nan)
    if numbers.shape != (entry["size"],) or not np.isfinite(numbers).all():
        raise ValueError(f"observation {entry['key']}: give {entry['size']} finite numbers")
    return numbers.clip(entry["low"], entry["high"]).astype(np.float32)


def _picture(value: Any, entry: dict[str, Any]) -> np.ndarray:
    shape = (entry["height"], entry["width"], 3)
    if getattr(value, "dtype", None) != np.uint8 or value.shape != shape:
        kind, size = getattr(value, "dtype", type(value).__name__), getattr(value, "shape", "")
        raise ValueError(f"observation {entry['key']}: give uint8 {shape}, got {kind} {size}")
    return value


def _open(path: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # its warnings name constants that it leaves out
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
