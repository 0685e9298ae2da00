import torch

from reconverge.policy.continual.parameter_vector import concatenate
from support.tiny import learn, make_method, make_windows


def parameters(policy):
    return concatenate(dict(policy.named_parameters()))


def test_single_learns_each_task_as_if_it_were_the_only_one():
    method = make_method("single")
    learn(method, 0, 60)
    first = parameters(method.model)
    learn(method, 1, 60)
    alone = make_method("single")
    alone.begin_task(1, 60)
    generator = torch.Generator().manual_seed(1)
    for _ in range(60):
        alone.update(make_windows(1).sample(32, generator))
    assert torch.equal(parameters(method.model_of(0)), first)
    assert torch.equal(parameters(method.model_of(1)), parameters(alone.model))
    assert not torch.equal(first, parameters(method.model_of(1)))


def test_begin_task_leaves_nothing_of_the_fresh_weights_in_the_average():
    method = make_method("single")
    learn(method, 0, 60)
    method.begin_task(1, 60)
    method.update(make_windows(1).sample(32, torch.Generator().manual_seed(0)))
    assert torch.equal(method.optimization.average_vector, method.optimization.vector)


def test_state_dict_holds_the_policies_of_all_tasks():
    method = make_method("single")
    learn(method, 0, 10)
    learn(method, 1, 10, last=True)
    restored = make_method("single")
    restored.load_state_dict({key: value.clone() for key, value in method.state_dict().items()})
    for task in (0, 1):
        assert torch.equal(parameters(restored.model_of(task)), parameters(method.model_of(task)))
