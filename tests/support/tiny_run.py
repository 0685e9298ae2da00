"""A whole run on the command line that takes seconds: its options, and demonstrations of two
episodes a task.
"""

import io
import os
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import replace

import pytest
from hydra.core.global_hydra import GlobalHydra

from reconverge.envs.catalog import TASKS
from reconverge.policy.demonstrations.scripted import collect
from reconverge.policy.runs.configuration import CHOSEN, GROUPS, TrainOptions
from reconverge.tools import export as export_tool
from support.typecheck import unchecked

OPTIONS = [
    "updates_per_task=12",
    "batch_size=16",
    "n_action_steps=4",  # all that are planned
    "checkpoint_every=4",
    "report=false",
    "device=cpu",
    "workers=1",
    "optimizer.warmup=2",
    "network.width=16",
    "network.depth=1",
    "diffusion.num_train_timesteps=20",
    "diffusion.num_inference_steps=2",
    "demonstrations.episodes=2",
    "evaluation.n_rollouts=1",
    "evaluation.probe_rollouts=0",
    "evaluation.slots=1",
    "replay.batch_size=16",
    "replay.pool=32",
    "replay.updates=6",
    "replay.network.width=16",
    "replay.network.depth=1",
    "replay.diffusion.num_train_timesteps=20",
    "replay.diffusion.num_inference_steps=2",
    "fisher.samples=64",
]


def make_options(**changes):
    """The options of a run of lift and can, the default choice of every group unless given."""
    chosen = {group: GROUPS[group][name]() for group, name in CHOSEN.items()}
    return TrainOptions(**{"name": "run", "env": ["lift", "can"], **chosen, **changes})


def make_demonstrations(folder, tasks):
    """Stores of two episodes."""
    for task in tasks:
        collect(TASKS[task], folder / f"{task}.zarr", episodes=2, noise=0.2, workers=1)
    return folder


def options(demonstrations, run=None, *extra):
    where = [f"demonstrations.path={demonstrations}"] + ([f"hydra.run.dir={run}"] if run else [])
    return ["env=lift,can", *OPTIONS, *where, *map(str, extra)]


def shorten(patch, max_steps, *tasks):
    """Let episodes of tasks end after so many control steps, in this process."""
    for name in tasks:
        patch.setitem(TASKS, name, replace(TASKS[name], max_steps=max_steps))


def call(main, arguments, monkeypatch):
    """The exit code of an entry point in this process."""
    GlobalHydra.instance().clear()
    monkeypatch.setattr(sys, "argv", ["program", *map(str, arguments)])
    try:
        main()
    except SystemExit as exit:
        return exit.code or 0
    finally:
        GlobalHydra.instance().clear()
    return 0


LISTEN = (
    "import runpy, signal, sys; "
    "signal.signal(signal.SIGINT, signal.default_int_handler); sys.argv = sys.argv[1:]; "
    "runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
)


def start(arguments, cwd, module="reconverge.policy.train", **options):
    """An entry point as a process of its own, which Ctrl-C reaches even where a shell that ran this
    ignores it.

    Not by preexec_fn: forking a process as large as this one can fail for want of memory.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", LISTEN, module, *map(str, arguments)],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def export(source, folder):
    """Export a checkpoint; return what it said. Tracing cannot meet shape checks."""
    said = io.StringIO()
    arguments = [f"checkpoint={source}", f"output={folder}"]
    with pytest.MonkeyPatch.context() as patch, unchecked(), redirect_stdout(said):
        assert call(export_tool.main, arguments, patch) == 0
    return said.getvalue()
