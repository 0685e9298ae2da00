"""What a native step reads of metaworld's environments."""

import numpy as np
from metaworld.env_dict import ALL_V3_ENVIRONMENTS

from reconverge.envs.suites.metaworld.conditions import READINGS, UNMOVED


def test_all_environments_but_two_are_native():
    """dial-turn observes a point by the sine of the dial's angle; stick-push judges the forces of
    the grasp.
    """
    assert set(ALL_V3_ENVIRONMENTS) - set(READINGS) == {"dial-turn-v3", "stick-push-v3"}
    assert set(READINGS) <= set(ALL_V3_ENVIRONMENTS)


def test_unmoved_changes_no_bit():
    numbers = np.array([0.0, -0.0, 1e-310])
    assert (numbers + UNMOVED).tobytes() == numbers.tobytes()
