"""Commands that are killed leave what undisturbed ones do, once they are typed again."""

import pytest
from faults.kills import WORK, Trials


@pytest.mark.parametrize("name", WORK)
def test_killed_work_ends_as_if_undisturbed(tmp_path, name):
    # after 19 and 69 % of its time; of a run early alone, as test_execution kills one late
    chain = Trials(name, tmp_path).chain(1, most=1 if name == "train" else 2)
    assert chain.kills > 0
    assert chain.wrong == []
