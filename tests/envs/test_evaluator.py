from reconverge.envs import evaluator as module
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


def test_evaluator_keeps_no_more_simulators_than_it_may(made_simulators, monkeypatch):
    monkeypatch.setattr(module, "MOST_OPEN", 2)
    evaluator = Evaluator([TASKS[name] for name in ("lift", "can", "square")], 1, 1)
    first, second, third = (evaluator.env(task) for task in range(3))
    assert evaluator.env(0) is first
    assert evaluator.env(2) is third
    assert evaluator.env(1) is not second
    evaluator.close()
    assert [name for name, _ in made_simulators] == ["lift", "can", "square", "can"]
