"""Meta-World (v3): the suite, its fifty tasks, and sequences of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from reconverge.envs.suites.metaworld.experts import MetaworldExpert, PatientExpert, StickPullExpert
from reconverge.envs.suites.suite import QUATERNION, Simulator, Suite
from reconverge.envs.task import UNIT_QUATERNION, Bounds, Expert, Landmarks, Task, join

# World frame, metres; the gripper's opening; zeros for an object that a scene lacks.
HAND: Bounds = ((-0.525, 0.348, -0.0525, 0.0), (0.525, 1.025, 0.7, 1.0))
PLACE: Bounds = ((-0.6, 0.0, -0.1), (0.6, 1.1, 0.7))
ROLLING: Bounds = ((-0.9, 0.0, -0.1), (0.9, 1.1, 0.7))  # the place of a ball that is missed


def _make(task: Task) -> Simulator:
    from reconverge.envs.suites.metaworld.simulator import MetaworldSimulator

    return MetaworldSimulator(task)


METAWORLD = Suite(
    name="metaworld",
    make=_make,
    control_hz=80,
    input_frames={"base": "world"},
    actions=(
        (3, "change of the hand's target position, {frame} frame, 0.01 m for 1"),
        (1, "effort of the gripper: 1 closes, -1 opens"),
    ),
    meanings={
        "hand": "hand's position, world frame, m; gripper's opening, 0 (closed) to 1",
        "objects": f"two objects, each position, world frame, m, and {QUATERNION}; "
        "zeros where there is no second",
        "previous_hand": "`hand` one control step earlier",
        "previous_objects": "`objects` one control step earlier",
        "goal": "goal's position, world frame, m; zeros where it is hidden",
    },
    camera="corner3",
    geom_groups=(0, 1),
    site_groups=(0, 1),
    cameras={
        "agentview": "corner4",
        "eye_in_hand": "gripperPOV",
        "frontview": "corner2",
        "birdview": "topview",
    },
    proprioception=("hand", "previous_hand"),
)


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


HORIZON = 500  # control steps, metaworld's own; 200 in Continual World

# Continual World's ten tasks in their order (Wolczyk et al. 2021, arXiv 2105.10919).
CW10 = _names(
    "hammer push-wall faucet-close push-back stick-pull "
    "handle-press-side push shelf-place window-close peg-unplug-side"
)
# Meta-World's multi-task benchmarks in metaworld's order (Yu et al. 2020, arXiv 1910.10897).
MT10 = _names(
    "reach push pick-place door-open drawer-open drawer-close button-press-topdown "
    "peg-insert-side window-open window-close"
)
MT50 = _names(
    "assembly basketball bin-picking box-close button-press-topdown button-press-topdown-wall "
    "button-press button-press-wall coffee-button coffee-pull coffee-push dial-turn disassemble "
    "door-close door-lock door-open door-unlock hand-insert drawer-close drawer-open faucet-open "
    "faucet-close hammer handle-press-side handle-press handle-pull-side handle-pull lever-pull "
    "pick-place-wall pick-out-of-hole pick-place plate-slide plate-slide-side plate-slide-back "
    "plate-slide-back-side peg-insert-side peg-unplug-side soccer stick-push stick-pull push "
    "push-wall push-back reach reach-wall shelf-place sweep-into sweep window-open "
    "window-close"
)
SEQUENCES = {
    "mt10": MT10,
    "mt50": MT50,
    "cw10": CW10,
    "cw20": (*CW10, *(f"{name}_2" for name in CW10)),  # CW10 twice, as Continual World's CW20
}

# Experts of our own, for tasks in which metaworld's fails too often.
OWN_EXPERTS: dict[str, Callable[[Landmarks], Expert]] = {
    "push-back": partial(PatientExpert, "push-back-v3", 0.7),
    "stick-pull": partial(StickPullExpert, "stick-pull-v3"),
    "shelf-place": partial(PatientExpert, "shelf-place-v3", 0.4),
}


def _task(name: str) -> Task:
    environment = f"{name}-v3"
    place = ROLLING if name == "soccer" else PLACE
    objects = join(place, UNIT_QUATERNION, PLACE, UNIT_QUATERNION)
    return Task(
        name=name,
        suite=METAWORLD.name,
        simulator=environment,
        expert=OWN_EXPERTS.get(name) or partial(MetaworldExpert, environment),
        expert_name=name if name in OWN_EXPERTS else environment,
        max_steps=200 if name in CW10 else HORIZON,
        observations={
            "hand": HAND,
            "objects": objects,
            "previous_hand": HAND,
            "previous_objects": objects,
            "goal": PLACE,
        },
        action_size=4,
    )


TASKS = tuple(_task(name) for name in dict.fromkeys((*CW10, *MT50)))
