"""Loggers, read back from what they leave on the disk."""

import json
import os
import sqlite3
import struct
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError
from typing import get_args

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from reconverge.errors import ReconvergeError
from reconverge.policy.runs import loggers
from reconverge.policy.runs.loggers import LOGGERS, TensorBoardLogger, check_logger, run_id
from support import ROOT
from support.logged_run import interrupted, resumed


def in_processes(folder, logger, **environment):
    """Both parts of a run, each in a process of its own."""
    folder.mkdir(parents=True)
    for part in ("interrupted", "resumed"):
        done = subprocess.run(
            [sys.executable, "-m", "support.logged_run", part, str(folder), logger],
            capture_output=True,
            text=True,
            cwd=ROOT / "tests",
            env={**os.environ, **environment},
        )
        assert done.returncode == 0, done.stderr[-2000:]


EXPECTED = {
    ("train/loss", 10): 0.1,
    ("train/loss", 20): 0.05,
    ("generator/lift", 10): 0.25,
    ("success/lift", 20): 0.5,
    ("train/loss", 30): 0.2,
    ("train/loss", 40): 0.1,
    ("success/lift", 40): 1.0,
    ("success/can", 40): 0.0,
}


def scalars(entries):
    """Return {(name, step): value} of logged entries; the axis of an entry names its step."""
    found = {}
    for entry in entries:
        axis = (
            "generator_update" if any(name.startswith("generator/") for name in entry) else "update"
        )
        found |= {(name, entry[axis]): value for name, value in entry.items() if "/" in name}
    return found


def drawn(folder):
    """Return {(name, step): value} of what TensorBoard shows of a run."""
    found = {}
    for place in {path.parent for path in (folder / "tensorboard").rglob("events.*")}:
        events = EventAccumulator(str(place)).Reload()
        for name in events.Tags()["scalars"]:
            found |= {(name, event.step): event.value for event in events.Scalars(name)}
    return found


def test_tensorboard_logger_gets_every_scalar(tmp_path):
    interrupted(tmp_path, "none")
    time.sleep(1.0)  # event files are ordered by the second of their beginning
    resumed(tmp_path, "none")
    assert drawn(tmp_path) == pytest.approx(EXPECTED)
    assert not (tmp_path / "logger_id.txt").exists()


def test_tensorboard_logger_of_a_resumed_run_keeps_what_the_generator_learned(tmp_path):
    before = TensorBoardLogger(tmp_path, 0)
    before.log({"generator/lift": 0.5}, 60, "generator_update")
    before.log({"generator/can": 0.25}, 60, "generator_update")
    before.log({"train/loss": 0.25}, 50, "update")
    before.close(False)
    time.sleep(1.0)
    after = TensorBoardLogger(tmp_path, 40)
    after.log({"generator/can": 0.75}, 30, "generator_update")  # it learns anew
    after.log({"train/loss": 0.125}, 50, "update")
    after.close(True)
    assert drawn(tmp_path) == {
        ("generator/lift", 60): 0.5,
        ("generator/can", 30): 0.75,
        ("train/loss", 50): 0.125,
    }


# Weights & Biases: a log of records (LevelDB's format) of its own protocol buffers.


def records(path):
    from wandb.proto.wandb_internal_pb2 import Record

    raw, position, message = path.read_bytes(), 7, b""
    while position + 7 <= len(raw):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", raw[position : position + 7])
        message += raw[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or its last part
            yield Record.FromString(message)
            message = b""


def test_wandb_logger_makes_a_resumed_run_one_run_offline(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    folder = tmp_path / "sweep" / "seed=0"
    in_processes(folder, "wandb")
    files = sorted((folder / "wandb").glob("offline-run-*/*.wandb"))  # by the time in their names
    parts = [list(records(path)) for path in files]
    assert len(parts) == 2
    runs = [
        record.run for part in parts for record in part if record.WhichOneof("record_type") == "run"
    ]
    assert {run.run_id for run in runs} == {run_id(folder)}
    assert {(run.project, run.run_group, run.display_name) for run in runs} == {
        ("reconverge", "sweep", "seed=0")
    }
    assert {item.key: item.value_json for item in runs[0].config.update}["method"] == '"replay"'
    history = [
        {
            item.key or item.nested_key[0]: json.loads(item.value_json)
            for item in record.history.item
        }
        for part in parts
        for record in part
        if record.WhichOneof("record_type") == "history"
    ]
    assert scalars(history) == EXPECTED
    assert (np.diff([e["_step"] for e in history]) > 0).all()  # no part overwrites the one before
    codes = [
        [r.exit.exit_code for r in part if r.WhichOneof("record_type") == "exit"] for part in parts
    ]
    assert codes == [[1], [0]]  # interrupted, complete


def test_trackio_logger_makes_a_resumed_run_one_run(tmp_path):
    pytest.importorskip("trackio")
    folder = tmp_path / "seed=0"
    in_processes(folder, "trackio", TRACKIO_DIR=str(tmp_path / "books"))
    (book,) = (tmp_path / "books").glob("*.db")
    with sqlite3.connect(book) as database:
        rows = database.execute(
            "select run_name, step, metrics from metrics order by id"
        ).fetchall()
    assert {name for name, _, _ in rows} == {f"seed=0-{run_id(folder)}"}
    assert scalars([json.loads(metrics) for _, _, metrics in rows]) == EXPECTED


# Choosing one.


def test_loggers_imports_no_backend_unless_asked():
    program = (
        "import sys, reconverge.policy.train; "
        "print(sorted({'wandb', 'trackio'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_check_logger_lists_the_choices():
    with pytest.raises(
        ReconvergeError,
        match="unknown logger 'wandbb': choose one of none, wandb, trackio; did you mean",
    ):
        check_logger("wandbb")


@pytest.mark.parametrize("name", [name for name in LOGGERS if name != "none"])
def test_check_logger_gives_the_command_for_a_missing_package(name, monkeypatch, tmp_path):
    def missing(distribution):
        raise PackageNotFoundError(distribution)

    monkeypatch.setattr(loggers, "version", missing)
    (tmp_path / name).mkdir()  # a folder of the same name is not the package
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ReconvergeError, match=rf"logger={name}: not installed; pip install -e '.\[{name}\]'"
    ):
        check_logger(name)


def test_check_logger_refuses_a_mode_that_wandb_does_not_have(monkeypatch):
    wandb = pytest.importorskip("wandb")
    assert get_args(wandb.Settings.model_fields["mode"].annotation) == loggers.WANDB_MODES
    for mode in loggers.WANDB_MODES:
        monkeypatch.setenv("WANDB_MODE", mode)
        check_logger("wandb")
    monkeypatch.setenv("WANDB_MODE", "onlin")
    check_logger("none")
    with pytest.raises(
        ReconvergeError,
        match=r"^unknown WANDB_MODE 'onlin': choose one of online, .*; did you mean 'online'\?$",
    ):
        check_logger("wandb")


def test_run_id_is_drawn_once(tmp_path):
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
    assert run_id(folders[0]) == run_id(folders[0]) != run_id(folders[1])
    assert [path.name for path in folders[0].iterdir()] == ["logger_id.txt"]
