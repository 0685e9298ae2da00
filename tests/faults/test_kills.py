"""Commands that are killed leave what undisturbed ones do, once they are typed again."""

import pytest
from faults.kills import WORK, Trials


@pytest.mark.parametrize("name", WORK)
def test_killed_work_ends_as_if_undisturbed(tmp_path, name):
    trials = Trials(name, tmp_path)
    chains = [trials.chain(seed) for seed in range(2)]
    assert sum(chain.kills for chain in chains) > 0
    assert [chain.wrong for chain in chains if chain.wrong] == []
