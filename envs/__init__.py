"""Simulated tasks. Importing this registers them with gymnasium, as `reconverge/<task>-v0`."""

from reconverge.envs.registration import register_tasks

register_tasks()
