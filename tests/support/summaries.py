"""Progress and summaries of runs with numbers that are known."""

import json

from reconverge.policy.continual.loop import Probe, Progress

FACTS = {
    "method": "trust_region",
    "replay": "generator",
    "fisher": "rank1",
    "network": "mlp",
    "seed": 0,
    "updates_per_task": 20,
    "evaluation_seeds": "evaluation",
    "options": {"batch_size": 8},
    "parameters": 1234567,
    "command": "python -m policy.train env=lift,can,square",
    "versions": {"torch": "2.14.1", "commit": None},
    "hardware": {"cpu": "some", "cores": 2, "gpu": None},
}
SECONDS = {
    "demonstrations": 1.0,
    "training": 60.0,
    "evaluation": 30.0,
    "total": 90.0,
    "training_cpu": 55.0,
}


def two_tasks(**changes):
    """A run of tasks a and b: success 100 %, then 80 and 100 %; lost points 20."""
    back = {0.99: (None, 100), 0.9: (10, None), 0.8: (0, None)}
    recovery = [
        {
            "task": "a",
            "while_learning": "b",
            "target": target,
            "updates": updates,
            "censored_at": censored_at,
            "first_reached": updates,
        }
        for target, (updates, censored_at) in back.items()
    ]
    curve = {"task": "a", "while_learning": "b", "n_rollouts": 10, "just_learned": 1.0}
    learned = {"n_rollouts": 10, "just_learned": 1.0, "updates": [100, 200]}
    value = {
        **FACTS,
        "updates_per_task": 200,
        "tasks": ["a", "b"],
        "n_rollouts": 50,
        "success": [[1.0, None], [0.8, 1.0]],
        "success_ci95": [[[0.9, 1.0], None], [[0.7, 0.9], [0.9, 1.0]]],
        "average_success": 0.9,
        "average_success_ci95": [0.8, 0.95],
        "forgetting": {
            "just_learned_all": 0.05,
            "just_learned_without_last": 0.1,
            "max_without_last": 0.2,
        },
        "backward_transfer": -0.1,
        "diverged_rollouts": 0,
        "recovery": recovery,
        "probes": [{**curve, "updates": [2, 50, 200], "success": [0.9, 0.5, 0.1]}],
        "seconds": SECONDS,
        "peak_memory_mib": 100,
        "lowest_share": {
            "task": "a",
            "while_learning": "b",
            "update": 200,
            "success": 0.1,
            "share": 0.1,
        },
        "learning": [
            {**learned, "task": task, "while_learning": task, "success": success}
            for task, success in (("a", [0.5, 1.0]), ("b", [0.0, 1.0]))
        ],
        "libero": {"fwt": 0.625, "nbt": 0.2, "auc": 0.6375},
        "memory_bytes": 5000,
        "demonstrations": {},
        "changes": [],
    }
    return {**value, **changes}


def write_summary(folder, value):
    """Write `value`, JSON or its text, as the summary.json of a run in `folder`."""
    folder.mkdir(parents=True)
    text = value if isinstance(value, str) else json.dumps(value)
    (folder / "summary.json").write_text(text)
    return folder


NAMES = ["lift", "can", "square"]
PERFECT = [True, True, True, True]
HALF = [True, True, False, False]


def probe(later, task, update, successes):
    return Probe(later, task, update, successes)


def finished():
    """lift: 1, 0.5, 0.75; can: 0.5, 0.5; square: 1. Probes of two episodes."""
    return Progress(
        task=3,
        update=0,
        successes=[[PERFECT], [HALF, HALF], [[True, True, True, False], HALF, PERFECT]],
        probes=[
            probe(1, 0, 2, [False, False]),
            probe(1, 0, 4, [True, False]),
            probe(1, 0, 20, [True, True]),
            probe(2, 0, 2, [False, False]),
            probe(2, 1, 2, [True, True]),
            probe(2, 0, 20, [True, False]),
            probe(2, 1, 20, [True, False]),
        ],
    )
