import json
import subprocess
import sys

import pytest
import torch

from reconverge.errors import ReconvergeError
from reconverge.policy.runs import checkpoint
from reconverge.policy.runs.checkpoint import Checkpoint, CheckpointError, load, newest, save


def example(value=1.0):
    base = torch.arange(12.0).view(3, 4) * value
    weights = {
        "a": base.T,
        "shared": base,
        "empty": torch.zeros(0),
        "flag": torch.tensor([True, False]),
    }
    state = {
        "model/x": base[0],
        "count": torch.tensor([3, 2**60]),
        "double": torch.tensor(0.1, dtype=torch.float64),
    }
    return Checkpoint(weights, state, {"progress": {"task": 1}, "value": value})


def assert_same(found, wanted):
    for part in ("weights", "state"):
        tensors, expected = getattr(found, part), getattr(wanted, part)
        assert tensors.keys() == expected.keys()
        for name, value in expected.items():
            assert tensors[name].dtype == value.dtype
            assert torch.equal(tensors[name], value), name
    assert wanted.manifest.items() <= found.manifest.items()


def test_load_gives_what_save_wrote(tmp_path):
    folder = save(tmp_path / "checkpoints", 0, "lift", None, example())
    assert folder.name == "0_lift"
    assert {path.name for path in folder.iterdir()} == {
        "model.safetensors",
        "state.safetensors",
        "manifest.json",
    }
    assert_same(load(folder), example())
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["task"], manifest["update"]) == (0, None)


def test_newest_is_the_one_furthest_on(tmp_path):
    assert newest(tmp_path / "none") is None
    for name in ("0_lift", "1_can@9", "1_can@100", ".x.partial", "notes"):
        (tmp_path / name).mkdir()
    assert newest(tmp_path).name == "1_can@100"
    (tmp_path / "1_can").mkdir()
    assert newest(tmp_path).name == "1_can"
    (tmp_path / "10_far@2").mkdir()
    assert newest(tmp_path).name == "10_far@2"


def test_save_keeps_learned_tasks_and_drops_those_on_the_way(tmp_path):
    (tmp_path / ".old.partial").mkdir()
    for task, update in ((0, 5), (0, 10), (0, None), (1, 5), (1, 10)):
        save(tmp_path, task, "lift" if task == 0 else "can", update, example())
    assert {path.name for path in tmp_path.iterdir()} == {"0_lift", "1_can@10"}
    save(tmp_path, 1, "can", 10, example(2.0))  # again, after a resume
    assert_same(load(tmp_path / "1_can@10"), example(2.0))


@pytest.mark.parametrize("failing", [1, 2])
def test_save_on_a_full_disk_leaves_the_earlier_checkpoints(tmp_path, monkeypatch, failing):
    save(tmp_path, 0, "lift", None, example())
    save(tmp_path, 1, "can", 5, example(2.0))
    calls, write = [], checkpoint.save_file

    def full(tensors, path):
        calls.append(path)
        if len(calls) == failing:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        write(tensors, path)

    monkeypatch.setattr(checkpoint, "save_file", full)
    for update in (5, 10):  # another one, and one that would replace the newest
        calls.clear()
        with pytest.raises(ReconvergeError, match="No space left"):
            save(tmp_path, 1, "can", update, example(3.0))
    assert {path.name for path in tmp_path.iterdir()} == {"0_lift", "1_can@5"}
    assert_same(load(newest(tmp_path)), example(2.0))


def test_save_on_a_disk_that_is_really_full_is_one_line(tmp_path):
    code = (
        "import resource, sys, torch; from pathlib import Path\n"
        "from reconverge.policy.runs.checkpoint import Checkpoint, save\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "small, large = {'x': torch.zeros(10)}, {'x': torch.zeros(100_000)}\n"
        "folder = Path(sys.argv[1]); save(folder, 0, 'lift', None, Checkpoint(small, small, {}))\n"
        "try: save(folder, 1, 'can', 3, Checkpoint(small, large, {}))\n"
        "except ValueError as error: print(type(error).__name__, error)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.startswith("ReconvergeError"), done.stderr[-2000:]
    assert [path.name for path in tmp_path.iterdir()] == ["0_lift"]
    assert load(tmp_path / "0_lift").weights["x"].shape == (10,)


@pytest.mark.parametrize("file", ["model.safetensors", "state.safetensors", "manifest.json"])
@pytest.mark.parametrize("damage", ["gone", "cut", "edited"])
def test_load_names_a_damaged_checkpoint(tmp_path, file, damage):
    folder = save(tmp_path, 0, "lift", None, example())
    content = (folder / file).read_bytes()
    if damage == "gone":
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(
            content[: len(content) // 2] if damage == "cut" else b"\xff\xff" + content[2:]
        )
    with pytest.raises(
        CheckpointError, match=r"0_lift: damaged or incomplete checkpoint .*use another"
    ) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_load_refuses_no_checkpoint_and_another_schema(tmp_path):
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load(tmp_path / "none")
    folder = save(tmp_path, 0, "lift", None, example())
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "schema": 99}))
    with pytest.raises(CheckpointError, match="checkpoint schema 99"):
        load(folder)
