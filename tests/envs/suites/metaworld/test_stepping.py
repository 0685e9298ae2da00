"""scipy is the truth of the compiled quaternion."""

import numpy as np
from scipy.spatial.transform import Rotation

from reconverge.envs.suites.metaworld.stepping import quaternion_of


def test_quaternion_of_is_scipys_bit_for_bit():
    rng = np.random.default_rng(0)
    free = rng.normal(size=(500, 4))
    near = np.eye(4)[rng.integers(4, size=500)]  # no turn, and half turns about the axes
    near = near + rng.normal(size=(500, 4)) * 10.0 ** rng.integers(-12, -1, (500, 1))
    for matrix in Rotation.from_quat(np.concatenate([free, near])).as_matrix():
        expected = Rotation.from_matrix(matrix).as_quat()
        np.testing.assert_array_equal(quaternion_of(matrix), expected)
