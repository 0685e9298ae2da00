import json
import os
import subprocess
import sys
from pathlib import Path

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
    for name in ("0_lift", ".x.partial", "notes"):
        (tmp_path / name).mkdir()
    assert newest(tmp_path).name == "0_lift"
    (tmp_path / "1_can").mkdir()
    assert newest(tmp_path).name == "1_can"
    for name in ("1_can@9", "1_can@100"):  # a learned task that is learned on
        (tmp_path / name).mkdir()
        assert newest(tmp_path).name == name
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


FILES = ["model.safetensors", "state.safetensors", "manifest.json"]


def test_save_has_all_files_on_the_disk_before_they_take_their_name(tmp_path, monkeypatch):
    """Else a power cut leaves an empty checkpoint under a name, and those before it deleted."""
    synced, sync = [], os.fsync

    def watched(handle):
        assert not (tmp_path / "0_lift").exists()
        synced.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name)
        sync(handle)

    monkeypatch.setattr(os, "fsync", watched)
    save(tmp_path, 0, "lift", None, example())
    assert sorted(synced) == sorted(FILES)


def refused(folder, said):
    with pytest.raises(CheckpointError, match=said) as caught:
        load(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", ["gone", "cut", "edited", "empty", "folder"])
def test_load_names_a_damaged_checkpoint(tmp_path, file, damage):
    folder = save(tmp_path, 0, "lift", None, example())
    content = (folder / file).read_bytes()
    (folder / file).unlink()
    if damage == "folder":
        (folder / file).mkdir()
    elif damage != "gone":
        half = content[: len(content) // 2]
        damaged = {"cut": half, "edited": b"\xff\xff" + content[2:], "empty": b""}[damage]
        (folder / file).write_bytes(damaged)
    refused(folder, rf"0_lift: unusable checkpoint \({file} is .*\); restore it, or use another")


@pytest.mark.parametrize("file", FILES[:2])
def test_load_notices_any_flipped_byte_of_the_tensors(tmp_path, file):
    """Of a number, of a name or of white space in the header."""
    folder = save(tmp_path, 0, "lift", None, example())
    content = (folder / file).read_bytes()
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1
        (folder / file).write_bytes(changed)
        refused(folder, f"{file} is not as it was written")


@pytest.mark.parametrize("file", FILES)
def test_load_notices_a_file_of_another_checkpoint_of_the_run(tmp_path, file):
    before, folder = (save(tmp_path, i, n, None, example(i)) for i, n in enumerate(("lift", "can")))
    (folder / file).write_bytes((before / file).read_bytes())
    said = r"model.safetensors is not as it" if file == "manifest.json" else f"{file} is not as it"
    refused(folder, rf"1_can: .*{said} .*use checkpoint={before}; delete it to resume from 0_lift$")


def test_load_notices_a_checkpoint_under_the_name_of_another(tmp_path):
    lift = save(tmp_path, 0, "lift", None, example())
    lift.rename(tmp_path / "1_can")
    refused(tmp_path / "1_can", "it is 0_lift, as its manifest.json says")
    (tmp_path / "1_can").rename(tmp_path / "favourite")
    assert_same(load(tmp_path / "favourite"), example())
    refused(tmp_path, r"manifest.json is missing\); restore it, or use another one$")


def test_load_notices_a_file_that_was_added(tmp_path):
    folder = save(tmp_path, 0, "lift", None, example())
    (folder / ".nfs0001").write_text("")
    assert load(folder)
    (folder / "optimizer.pt").write_text("")
    refused(folder, "optimizer.pt does not belong to it")


def test_load_offers_the_last_whole_checkpoint_before_a_damaged_one(tmp_path):
    folders = [save(tmp_path, i, f"t{i}", None, example()) for i in range(3)]
    folders.append(save(tmp_path, 3, "t3", 7, example()))
    for folder in (folders[1], folders[3]):
        (folder / "state.safetensors").unlink()
    said = refused(folders[3], f"^{folders[3]}: .*use checkpoint={folders[2]}; delete it to resume")
    assert said.endswith("resume from 2_t2")
    (folders[2] / "model.safetensors").unlink()
    refused(folders[3], f"use checkpoint={folders[0]}; delete it")
    refused(folders[2], f"use checkpoint={folders[0]}$")  # a run does not resume from this one
    (folders[0] / "manifest.json").unlink()
    refused(folders[3], "use another one; delete it to resume from the start$")


def test_a_shell_takes_the_checkpoint_that_load_offers(tmp_path):
    run = tmp_path / "my run"
    run.mkdir()
    lift, can = (save(run, i, name, None, example()) for i, name in enumerate(("lift", "can")))
    (can / "state.safetensors").unlink()
    refused(can, f"use 'checkpoint={lift}'; delete it")


def test_load_of_a_file_or_of_nothing(tmp_path):
    refused(tmp_path / "none", "no such checkpoint")
    (tmp_path / "0_lift").write_text("")
    refused(tmp_path / "0_lift", "manifest.json is missing")


def test_load_refuses_another_schema(tmp_path):
    folder = save(tmp_path, 0, "lift", None, example())
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["sha256"], manifest["files"]
    (folder / "manifest.json").write_text(json.dumps({**manifest, "schema": 2}))
    said = r"manifest.json has schema 2, this version reads 3\); use the version of reconverge that"
    refused(folder, said)
