"""LIBERO: the suite, its 130 tasks, read from the package where it is installed, and sequences."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from reconverge.envs.suites.libero.experts.assignments import EXPERTS
from reconverge.envs.suites.libero.installation import assets, folder, installed, task_names
from reconverge.envs.suites.libero.problems import Problem, read_problem
from reconverge.envs.suites.robosuite.scene import FINGERS, ROBOSUITE
from reconverge.envs.suites.suite import QUATERNION, Simulator, Suite
from reconverge.envs.task import UNIT_QUATERNION, Bounds, Expert, Landmarks, Task, no_expert

HORIZON = 600  # control steps, LIBERO's own in evaluation
SIZES = {
    "libero_spatial": 10,
    "libero_object": 10,
    "libero_goal": 10,
    "libero_10": 10,
    "libero_90": 90,
}
SEQUENCES = {suite: tuple(f"{suite}_{i}" for i in range(n)) for suite, n in SIZES.items()}
# Height of the surface on which the objects stand, metres, world frame.
SURFACES = {
    "libero_tabletop_manipulation": 0.9,
    "libero_kitchen_tabletop_manipulation": 0.9,
    "libero_study_tabletop_manipulation": 0.867,
    "libero_living_room_tabletop_manipulation": 0.41,
    "libero_floor_manipulation": 0.0,
}
REACH: Bounds = ((-0.8,) * 3, (0.8,) * 3)  # object in the gripper's frame, metres


def _make(task: Task) -> Simulator:
    from reconverge.envs.suites.libero.simulator import LiberoSimulator

    return LiberoSimulator(task)


LIBERO = Suite(
    name="libero",
    make=_make,
    control_hz=ROBOSUITE.control_hz,
    restores_states=True,
    official_starts=50,
    input_frames=ROBOSUITE.input_frames,
    actions=ROBOSUITE.actions,
    convention=ROBOSUITE.convention,
    meanings=ROBOSUITE.meanings,
    camera="agentview",
    geom_groups=ROBOSUITE.geom_groups,
    site_groups=ROBOSUITE.site_groups,
    cameras=ROBOSUITE.cameras,
    proprioception=ROBOSUITE.proprioception,
)


def observations(problem: Problem) -> dict[str, Bounds]:
    """Return LIBERO's own low-dimensional keys of the objects of interest and of the robot, and
    the joints of fixtures that the goal is about, with bounds.
    """
    surface = SURFACES[problem.scene]
    workspace = (-0.8, -0.6, surface - 0.15), (0.5, 0.6, surface + 0.75)
    found: dict[str, Bounds] = {}
    for name in problem.objects:
        found[f"{name}_to_robot0_eef_pos"] = REACH
        found[f"{name}_to_robot0_eef_quat"] = UNIT_QUATERNION
        found[f"{name}_pos"] = workspace
        found[f"{name}_quat"] = UNIT_QUATERNION
    found |= {joint.name: ((joint.low,), (joint.high,)) for joint in problem.joints}
    return found | {
        "robot0_eef_pos": workspace,
        "robot0_eef_quat": UNIT_QUATERNION,
        "robot0_gripper_qpos": FINGERS,
    }


def meanings(problem: Problem) -> dict[str, str]:
    """Return what the keys of a task's objects and joints mean."""
    found: dict[str, str] = {}
    for name in problem.objects:
        found |= {
            f"{name}_to_robot0_eef_pos": f"position of {name} in the gripper's frame, m",
            f"{name}_to_robot0_eef_quat": f"its {QUATERNION} in that frame",
            f"{name}_pos": f"position of {name}, world frame, m",
            f"{name}_quat": f"its {QUATERNION}, world frame",
        }
    return found | {joint.name: "position of this joint, m or rad" for joint in problem.joints}


def _expert(name: str, problem: Problem) -> tuple[str, Callable[[Landmarks], Expert]]:
    """Return the name of a task's expert, "" if there is none, and what makes it of landmarks."""
    if name not in EXPERTS:
        return "", partial(no_expert, name)
    expert_name, expert = EXPERTS[name]
    return expert_name, partial(expert, *problem.objects)


def _task(name: str, problem: Problem) -> Task:
    expert_name, expert = _expert(name, problem)
    return Task(
        name=name,
        suite=LIBERO.name,
        simulator=problem.file.stem,
        expert=expert,
        expert_name=expert_name,
        max_steps=HORIZON,
        observations=observations(problem),
        scene=problem,
        meanings=meanings(problem),
        language=problem.language,
    )


def _tasks() -> dict[str, Task]:
    if not installed():
        return {}
    found = {}
    for suite, names in task_names().items():
        for name, official in zip(SEQUENCES.get(suite, ()), names, strict=False):
            file = folder() / "bddl_files" / suite / f"{official}.bddl"
            states = folder() / "init_files" / suite / f"{official}.pruned_init"
            found[name] = _task(name, read_problem(file, states, assets() / "articulated_objects"))
    return found


TASKS = _tasks()
OFFICIAL = {task.simulator: name for name, task in TASKS.items()}  # official names of the rows
