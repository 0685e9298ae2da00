"""The contract of a task: frames, sizes and JSON."""

import json
from dataclasses import replace

import numpy as np
import pytest

from reconverge.envs.catalog import TASKS
from reconverge.envs.suites import SUITES
from reconverge.errors import ReconvergeError
from reconverge.policy.deployment.contract import Contract, make_contract, to_markdown
from support.tiny_checkpoint import make_checkpoint


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("checkpoints"))


@pytest.mark.parametrize(
    ("input_frame", "said"), [("base", "robot's base frame"), ("world", "world frame")]
)
def test_make_contract_names_the_frame_of_the_actions(source, input_frame, said):
    task = replace(source.task("lift"), input_frame=input_frame)
    assert [said in e.meaning for e in make_contract(task, source.policy).action] == [
        True,
        True,
        False,
    ]


def test_make_contract_has_the_checkpoints_bounds(source):
    contract = make_contract(source.task("can"), source.policy)
    assert (contract.task, contract.index, contract.padded_observation_size) == ("can", 1, 23)
    assert {entry.key: entry.size for entry in contract.observation} == TASKS["can"].sizes
    for side in ("low", "high"):
        found = [bound for entry in contract.observation for bound in getattr(entry, side)]
        np.testing.assert_array_equal(np.float32(found), getattr(TASKS["can"], side))


def test_make_contract_refuses_a_task_of_another_size_or_frame(source):
    lift = source.task("lift")
    with pytest.raises(ReconvergeError, match="lift has 19 observations and 4 actions, the policy"):
        make_contract(replace(lift, action_size=4), source.policy)
    with pytest.raises(ReconvergeError, match="unknown input_frame of lift 'tool': choose one of"):
        make_contract(replace(lift, input_frame="tool"), source.policy)


def test_from_json_reads_what_to_json_gave(source):
    contract = make_contract(source.task("lift"), source.policy)
    told = json.loads(json.dumps(contract.to_json()))
    assert Contract.from_json(told, "config.json") == contract
    told["observation"][1]["low"][2] = "0"
    said = r"config.json: observation\[1\]: low\[2\]: must be a number, got '0'"
    with pytest.raises(ReconvergeError, match=said):
        Contract.from_json(told, "config.json")


def test_to_markdown_counts_entries_through_the_flat_vectors(source):
    lines = to_markdown(make_contract(source.task("lift"), source.policy)).splitlines()
    assert lines[0] == "## lift: `task` = 0, 20 control steps a second"
    rows = [
        line.split(" | ")[0] for line in lines if line.startswith("| ") and "entries" not in line
    ]
    assert rows == ["| 0-9", "| 10-12", "| 13-16", "| 17-18", "| 19-22", "| 0-2", "| 3-5", "| 6"]


def test_make_contract_of_unlike_tasks_tells_each_its_own_actions(tmp_path):
    mixed = make_checkpoint(tmp_path, tasks=("lift", "hammer"))
    lift, hammer = (make_contract(task, mixed.policy) for task in mixed.tasks)
    assert [(c.action_size, c.padded_action_size) for c in (lift, hammer)] == [(7, 7), (4, 7)]
    assert (lift.control_hz, hammer.control_hz) == (20, 80)
    assert sum(entry.size for entry in hammer.action) == 4
    assert to_markdown(hammer).endswith("\n| 4-6 | padding: zeros, not for the robot |")
    assert "not for the robot" not in to_markdown(lift)
    with pytest.raises(ReconvergeError, match="4 actions, the policy at most 39 and 7"):
        make_contract(replace(mixed.tasks[0], action_size=4), mixed.policy)


def test_actions_that_a_suite_gives_no_meaning_are_for_the_robot(source, monkeypatch):
    task = source.task("lift")
    for meanings, row in (((), "0-6"), (((3, "position"),), "3-6")):
        monkeypatch.setitem(SUITES, task.suite, replace(SUITES[task.suite], actions=meanings))
        contract = make_contract(task, source.policy)
        assert sum(entry.size for entry in contract.action) == contract.action_size
        assert to_markdown(contract).endswith(f"\n| {row} | as the simulator takes it |")
