"""Simulated tasks, in a process whose environment variables MuJoCo and numba can use.

Importing this registers them with gymnasium, as `reconverge/<task>-v0`.
"""

from reconverge.process import make_usable

make_usable()

from reconverge.envs.registration import register_tasks  # noqa: E402

register_tasks()
