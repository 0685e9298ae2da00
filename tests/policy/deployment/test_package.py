"""The exported folder: all that a robot needs, whole or not at all."""

import json
import shutil

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.numpy import load_file

from reconverge.envs.catalog import TASKS
from reconverge.errors import ReconvergeError
from reconverge.policy.deployment import onnx
from reconverge.policy.deployment.contract import Contract, make_contract
from reconverge.policy.deployment.package import load_package, readme
from reconverge.seal import seal
from reconverge.tools import export
from reconverge.tools.benchmark import latency
from support import tiny_run
from support.tiny_checkpoint import make_checkpoint
from support.tiny_run import call


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="module")
def exported(source, tmp_path_factory):
    """The folder that the entry point writes."""
    folder = tmp_path_factory.mktemp("exports") / "mine"
    tiny_run.export(source.path, folder)
    assert list(folder.parent.iterdir()) == [folder]
    return folder


def test_write_package_is_all_that_a_robot_needs(source, exported):
    """Actions from config.json, numpy and onnxruntime are the policy's."""
    about = json.loads((exported / "config.json").read_text())
    contract = about["tasks"][1]
    rng = np.random.default_rng(0)
    seen = {
        part["key"]: rng.uniform(part["low"], part["high"], (2, part["size"]))
        for part in contract["observation"]
    }
    flat = np.concatenate([seen[part["key"]] for part in contract["observation"]], axis=1).astype(
        np.float32
    )
    observations = np.pad(flat, [(0, 0), (0, contract["padded_observation_size"] - flat.shape[1])])[
        None
    ]
    shape = (1, contract["horizon"], contract["padded_action_size"])
    noise = rng.standard_normal(shape, dtype=np.float32)
    inputs = {"observations": observations, "task": np.array([contract["index"]]), "noise": noise}
    (found,) = onnxruntime.InferenceSession(exported / "sampler.onnx").run(None, inputs)
    expected = source.policy.plan(*(torch.from_numpy(value) for value in inputs.values()))
    np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=1e-4)


def test_write_package_exports_the_network(source, exported):
    policy, generator = source.policy, torch.Generator().manual_seed(0)
    sample = torch.randn((5, 4, 7), generator=generator)
    step = torch.randint(20, (5,), generator=generator)
    condition = torch.randn((5, 2 * 23 * 3 + source.policy.n_tasks), generator=generator)
    inputs = {"sample": sample, "step": step, "condition": condition}
    session = onnxruntime.InferenceSession(exported / "denoiser.onnx")
    assert {entry.name for entry in session.get_inputs()} == set(inputs)
    (found,) = session.run(None, {name: value.numpy() for name, value in inputs.items()})
    expected = policy.network(sample, step, condition).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_write_package_holds_weights_and_contracts(source, exported):
    assert {path.name for path in exported.iterdir()} == {
        "README.md",
        "config.json",
        "model.safetensors",
        "denoiser.onnx",
        "robot.py",
        "sampler.onnx",
    }
    weights = load_file(exported / "model.safetensors")
    assert weights.keys() == source.policy.state_dict().keys()
    assert all(
        np.array_equal(weights[name], value.numpy())
        for name, value in source.policy.state_dict().items()
    )
    about = json.loads((exported / "config.json").read_text())
    for contract in about["tasks"]:
        assert json.loads(json.dumps(Contract.from_json(contract, "it").to_json())) == contract
    assert 0 <= about["largest_difference"] <= 1e-4
    readme = (exported / "README.md").read_text()
    for contract, task in zip(about["tasks"], (TASKS["lift"], TASKS["can"]), strict=True):
        assert {part["key"]: part["size"] for part in contract["observation"]} == task.sizes
        assert np.array_equal(
            [low for part in contract["observation"] for low in part["low"]], task.low
        )
        assert sum(part["size"] for part in contract["action"]) == task.action_size
        assert contract["control_hz"] == 20
        section = readme.split(f"## {task.name}")[1]
        assert [section.index(f"`{key}`") for key in task.sizes] == sorted(
            section.index(f"`{k}`") for k in task.sizes
        )
    assert "| 19-22 | | padding: zeros" in readme
    assert "Execute the first 2 of the 4 actions" in readme


def test_load_package_acts_as_the_policy(source, exported):
    package = load_package(exported, threads=1)
    assert package.spec == source.spec
    assert package.contracts == tuple(make_contract(t, source.policy) for t in source.tasks)
    inputs = onnx.example_sampler(source.policy, 3, seed=5)
    feed = {key: value.numpy() for key, value in zip(onnx.SAMPLER[0], inputs, strict=True)}
    (found,) = package.sampler.run(None, feed)
    np.testing.assert_allclose(found, source.policy.plan(*inputs).numpy(), rtol=0, atol=1e-4)


def test_load_package_reads_packages_of_before_robot_py(exported, tmp_path):
    folder = shutil.copytree(exported, tmp_path / "old")
    (folder / "robot.py").unlink()
    about = json.loads((folder / "config.json").read_text())
    for contract in about["tasks"]:
        del contract["pictures"]
    content = {key: about[key] for key in about.keys() - {"schema", "files", "sha256"}}
    seal(folder, "config.json", 2, content)
    now, then = load_package(exported), load_package(folder)
    assert (now.spec, now.contracts) == (then.spec, then.contracts)
    assert now.encoder is then.encoder is None


@pytest.mark.parametrize(
    "name",
    ["README.md", "config.json", "denoiser.onnx", "model.safetensors", "robot.py", "sampler.onnx"],
)
def test_load_package_notices_damage_to_any_file(exported, tmp_path, name):
    folder = shutil.copytree(exported, tmp_path / "copy")
    content = (folder / name).read_bytes()
    middle = len(content) // 2
    for damaged in (
        b"",
        content[:middle],
        content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
    ):
        (folder / name).write_bytes(damaged)
        with pytest.raises(
            ReconvergeError, match=rf"copy: unusable package \({name} .*; export it again"
        ):
            load_package(folder)
    (folder / name).unlink()
    with pytest.raises(ReconvergeError, match=f"{name} is missing"):
        load_package(folder)
    (folder / name).write_bytes(content)
    assert load_package(folder)
    (folder / "notes.txt").write_text("")
    with pytest.raises(ReconvergeError, match=r"notes.txt does not belong to it"):
        load_package(folder)


def test_check_export_refuses_a_file_that_differs(exported, tmp_path):
    other = make_checkpoint(tmp_path).policy
    assert onnx.check_export(other, exported) <= 1e-4
    other.network.leave.bias.data += 0.01
    with pytest.raises(
        ReconvergeError, match=r"denoiser.onnx differs from the policy by 1.0e-02, more than 1e-04"
    ):
        onnx.check_export(other, exported)


def test_write_package_leaves_nothing_when_the_check_fails(
    source, exported, tmp_path, monkeypatch, capsys
):
    def copy(module, example, names, path):
        path.write_bytes((exported / path.name).read_bytes())

    monkeypatch.setattr(onnx, "write_onnx", copy)
    arguments = [f"checkpoint={source.path}", f"output={tmp_path / 'mine'}"]
    with monkeypatch.context() as patch:
        patch.setattr(onnx, "TOLERANCE", -1.0)
        assert call(export.main, arguments, patch) == 2
    assert "differs from the policy by" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert call(export.main, arguments, monkeypatch) == 0
    assert "lift, can; differs from the policy by at most" in capsys.readouterr().out


def test_export_says_bad_input_in_one_line(source, exported, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(onnx, "write_onnx", lambda *_: pytest.fail("it went to work"))
    for arguments, said in (
        ([], "checkpoint= is missing"),
        (["checkpoint=nowhere"], "nowhere: no checkpoint here"),
        ([f"checkpoint={source.path}", f"output={exported}"], "exists already"),
        ([f"checkpoint={source.path}", "ouput=x"], "did you mean 'output'"),
    ):
        assert call(export.main, arguments, monkeypatch) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        assert said in lines[0]
    monkeypatch.setattr(onnx, "find_spec", lambda name: None if name == "onnxscript" else name)
    assert (
        call(export.main, [f"checkpoint={source.path}", f"output={tmp_path / 'x'}"], monkeypatch)
        == 2
    )
    assert "onnxscript not installed: pip install 'reconverge[export]'" in capsys.readouterr().err


def test_latency_compares_within_one_run(source, exported, monkeypatch):
    monkeypatch.setattr(latency, "ROUNDS", 1)
    result = latency.compare(source.policy, exported, cores=1) | latency.through_socket(
        source.path, "lift"
    )
    for name in ("torch_ms", "onnx_ms", "socket_ms", "beside_flood_ms", "server_ms"):
        assert 0 < result[name]["p50"] <= result[name]["p99"], name
    assert result["server_ms"]["p50"] < result["socket_ms"]["p50"]


def test_readme_of_unlike_tasks_says_which_numbers_are_a_tasks_own(source, tmp_path):
    mixed = make_checkpoint(tmp_path, tasks=("lift", "hammer"))
    said = []
    for loaded in (source, mixed):
        contracts = [make_contract(task, loaded.policy) for task in loaded.tasks]
        said.append(readme(loaded.spec, contracts, loaded.policy.n_tasks, 0.0))
    for words in ("a task's own numbers, as below, then zeros", "are zero in both"):
        assert [words in text for text in said] == [False, True]
