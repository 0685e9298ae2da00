from support.tiny import action_error, learn, make_method


def test_update_learns_every_task_in_the_turn_of_the_first():
    method = make_method("multitask")
    learn(method, 0, 400)
    assert action_error(method.model, 0) < 0.03
    assert action_error(method.model, 1) < 0.03
