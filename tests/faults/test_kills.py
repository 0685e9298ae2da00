"""Commands that are killed leave what undisturbed ones do, once they are typed again."""

import os

import pytest
from faults.kills import WORK, Trials

# test_execution kills a run in its second task
NAMES = [name for name in WORK if name != "train" or os.environ.get("ALL_TASKS")]


@pytest.mark.parametrize("name", NAMES)
def test_killed_work_ends_as_if_undisturbed(tmp_path, name):
    chain = Trials(name, tmp_path).chain(1, most=2)  # after 19 and 69 % of its time
    assert chain.kills > 0
    assert chain.wrong == []
