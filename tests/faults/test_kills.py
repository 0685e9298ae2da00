"""Commands that are killed leave what undisturbed ones do, once they are typed again."""

import os

import pytest
from faults.kills import WORK, Trials

# Two kills seldom meet a write; by hand there are more. test_execution kills a run in its second
# task, test_files and test_store kill what writes.
by_hand = pytest.mark.skipif(not os.environ.get("ALL_TASKS"), reason="with ALL_TASKS=1")


@by_hand
@pytest.mark.parametrize("name", WORK)
def test_killed_work_ends_as_if_undisturbed(tmp_path, name):
    chain = Trials(name, tmp_path).chain(1, most=2)  # after 19 and 69 % of its time
    assert chain.kills > 0
    assert chain.wrong == []
