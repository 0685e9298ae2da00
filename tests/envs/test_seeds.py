from itertools import combinations

import pytest

from reconverge.envs.seeds import DEMONSTRATION, EVALUATION, MEASUREMENT, REPLAY, SELECTION

RANGES = (DEMONSTRATION, EVALUATION, SELECTION, REPLAY)


@pytest.mark.parametrize(("one", "other"), combinations(RANGES, 2))
def test_ranges_of_seeds_never_meet(one, other):
    """Else a policy is chosen, or taught, on the episodes that measure it."""
    assert max(one[0], other[0]) > min(one[-1], other[-1])


def test_measurement_names_its_ranges():
    assert MEASUREMENT == {"evaluation": EVALUATION, "selection": SELECTION}
