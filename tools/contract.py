"""What a policy wants to see and what its actions mean, for those who have nothing else of this code."""

from __future__ import annotations

from typing import Any

from envs.tasks import Task
from policy.agent import DiffusionPolicy

CONTROL_HZ = {"robosuite": 20, "metaworld": 80}
QUATERNION = "quaternion (x, y, z, w)"
OBSERVATIONS = {
    "robot0_eef_pos": "gripper's position, world frame, m",
    "robot0_eef_quat": f"gripper's orientation, world frame, {QUATERNION}",
    "robot0_gripper_qpos": "joint positions of the two fingers, m",
    "hand": "hand's position, world frame, m; gripper's opening, 0 (closed) to 1",
    "objects": f"two objects, each position, world frame, m, and {QUATERNION}; zeros where there is no second",
    "previous_hand": "`hand` one control step earlier",
    "previous_objects": "`objects` one control step earlier",
    "goal": "goal's position, world frame, m; zeros where it is hidden",
}
IN_GRIPPER = f"object's position in the gripper's frame, m, and its {QUATERNION} in that frame; "
IN_WORLD = f"object's position, world frame, m, and {QUATERNION}"
OBJECT = {
    "lift": f"{IN_WORLD}; its position less the gripper's, world axes, m",
    "can": IN_GRIPPER + IN_WORLD,
    "square": IN_GRIPPER + IN_WORLD,
}
FRAMES = {"base": "robot's base", "world": "world"}
ACTIONS = {
    "robosuite": [
        (3, "change of the gripper's target position, {frame} frame, 0.05 m for 1"),
        (3, "change of the gripper's target orientation, rotation vector, {frame} frame, 0.5 rad for 1"),
        (1, "gripper: 1 closes, -1 opens"),
    ],
    "metaworld": [
        (3, "change of the hand's target position, world frame, 0.01 m for 1"),
        (1, "effort of the gripper: 1 closes, -1 opens"),
    ],
}


def task_contract(task: Task, policy: DiffusionPolicy, index: int, input_frame: str = "base") -> dict[str, Any]:
    """JSON that says everything about acting on `task`, the `index`-th that the policy was built for.

    Bounds are those of the checkpoint, by which it normalises; ValueError where the task has another size today.
    """
    low, high = (side[index].tolist() for side in (policy.normalizer.low, policy.normalizer.high))
    if task.observation_size > len(low) or task.action_size != policy.action_size:
        raise ValueError(
            f"{task.name} has {task.observation_size} observations and {task.action_size} actions, the policy at most "
            f"{len(low)} and {policy.action_size}; use a checkpoint of this version"
        )
    parts, start = [], 0
    for key, size in task.sizes.items():
        stop = start + size
        meaning = OBJECT.get(task.name) if key == "object" else OBSERVATIONS.get(key)
        bounds = {"low": low[start:stop], "high": high[start:stop]}
        parts.append({"key": key, "size": size, **bounds, "meaning": meaning or "as the simulator gives it"})
        start = stop
    return {
        "task": task.label,
        "index": index,
        "control_hz": CONTROL_HZ[task.suite],
        "observation_steps": policy.observation_steps,
        "padded_observation_size": len(low),
        "action_steps": policy.action_steps,
        "executed_steps": policy.executed_steps,
        "action_size": policy.action_size,
        "observation": parts,
        "action": [
            {"size": size, "low": -1.0, "high": 1.0, "meaning": meaning.format(frame=FRAMES[input_frame])}
            for size, meaning in ACTIONS[task.suite]
        ],
    }


def describe_task(contract: dict[str, Any]) -> str:
    """A section of Markdown."""
    low = [_numbers(part["low"]) for part in contract["observation"]]
    high = [_numbers(part["high"]) for part in contract["observation"]]
    lines = [
        f"## {contract['task']}: `task` = {contract['index']}, {contract['control_hz']} control steps a second",
        "",
        "| entries | observation key | meaning | low | high |",
        "|---|---|---|---|---|",
    ]
    start = 0
    for part, least, most in zip(contract["observation"], low, high, strict=True):
        entries = _range(start, part["size"])
        lines.append(f"| {entries} | `{part['key']}` | {part['meaning']} | {least} | {most} |")
        start += part["size"]
    padding = contract["padded_observation_size"] - start
    if padding:
        lines.append(f"| {_range(start, padding)} | | padding: zeros | | |")
    lines += ["", "| entries | action, in [-1, 1] |", "|---|---|"]
    start = 0
    for part in contract["action"]:
        lines.append(f"| {_range(start, part['size'])} | {part['meaning']} |")
        start += part["size"]
    return "\n".join(lines)


def _range(start: int, size: int) -> str:
    return f"{start}" if size == 1 else f"{start}-{start + size - 1}"


def _numbers(values: list[float]) -> str:
    """`-1` for four times -1, else all of them."""
    shown = [f"{value:g}" for value in values]
    return shown[0] if len(set(shown)) == 1 else ", ".join(shown)
