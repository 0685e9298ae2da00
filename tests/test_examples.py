"""Every script of examples/ runs, and says what it promises."""

import os
import subprocess
import sys

import pytest

from support import ROOT

EXAMPLES = ROOT / "examples"


def output(folder, script, *arguments):
    """What the example prints."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / script, *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder in which train_two_tasks.py has run, and what it printed."""
    folder = tmp_path_factory.mktemp("examples")
    return folder, output(folder, "train_two_tasks.py")


def test_train_two_tasks(trained):
    folder, printed = trained
    assert "after learning push: success [" in printed
    assert "after learning push-back: success [" in printed
    assert (folder / "runs/two/summary.json").exists()


def test_act(trained):
    printed = output(trained[0], "act.py", "runs/two", "push")
    assert "push: success " in printed
    assert "step by step: " in printed


def test_inspect_store(trained):
    printed = output(trained[0], "inspect_store.py")
    assert "demonstrations/push.zarr: 2 episodes" in printed
    assert printed.count("the hand ends at") == 2


def test_steer(tmp_path):
    assert output(tmp_path, "steer.py").count("return 1.0") == 3


def test_every_example_is_tested():
    assert {path.name for path in EXAMPLES.glob("*.py")} == {
        "act.py",
        "inspect_store.py",
        "steer.py",
        "train_two_tasks.py",
    }
