from reconverge.envs.catalog import TASKS
from reconverge.envs.evaluator import Evaluator
from reconverge.envs.suites import in_frame


def test_evaluator_acts_in_each_tasks_frame(made_simulators):
    evaluator = Evaluator([TASKS["lift"], in_frame(TASKS["can"], "world")], 1, 1)
    assert evaluator.env(0).simulator.fingerprint["input_frame"] == "base"
    assert evaluator.env(1).simulator.fingerprint["input_frame"] == "world"
    assert evaluator.env(1) is evaluator.env(1)
    evaluator.close()
    assert made_simulators == [("lift", "base"), ("can", "world")]
