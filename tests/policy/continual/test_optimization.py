import copy
import dataclasses
import math

import pytest
import torch
from torch import nn

from reconverge.errors import ReconvergeError
from reconverge.options import check_options
from reconverge.policy.continual.optimization import (
    BFLOAT16_UNITS,
    DivergenceError,
    Optimization,
    OptimizerOptions,
    precision_on,
)

SETTINGS = OptimizerOptions(
    learning_rate=0.02,
    warmup=4,
    weight_decay=0.05,
    max_gradient_norm=2.5,
    ema_decay=0.9,
    precision="float32",
)
UPDATES = 20


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.SiLU(), nn.LayerNorm(5), nn.Linear(5, 2))


def loss_of(net, update):
    generator = torch.Generator().manual_seed(update)
    x = torch.randn((8, 3), generator=generator)
    return 3 * (net(x) - x[:, :2].sin()).square().mean()


def advance(optimization, start, stop):
    for update in range(start, stop):
        optimization.step(loss_of(optimization.model, update))
        optimization.follow()


def parameters(net):
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def test_step_equals_torch_adamw_with_clipping_schedule_and_average():
    ours, plain = Optimization(network(), SETTINGS), network()
    average = copy.deepcopy(plain)
    adam = torch.optim.AdamW(plain.parameters(), betas=(0.9, 0.99), weight_decay=0.05)
    ours.begin(UPDATES)
    clipped = 0
    for update in range(UPDATES):
        rate = ours.step(loss_of(ours.model, update))
        ours.follow()
        adam.zero_grad()
        loss_of(plain, update).backward()
        clipped += nn.utils.clip_grad_norm_(plain.parameters(), 2.5) > 2.5
        warm = (update + 1) / 4 if update < 4 else 1.0
        lr = 0.02 * warm * (1 + math.cos(math.pi * update / UPDATES)) / 2
        adam.param_groups[0]["lr"] = lr
        adam.step()
        n = max(0, update - 1)
        decay = min(0.9, 1 - (1 + n) ** -0.75)
        for kept, new in zip(average.parameters(), plain.parameters(), strict=True):
            kept.data = decay * kept.data + (1 - decay) * new.data
        assert rate == pytest.approx(lr, rel=1e-12)
        torch.testing.assert_close(parameters(ours.model), parameters(plain), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(
            parameters(ours.average), parameters(average), rtol=1e-5, atol=1e-6
        )
    assert 0 < clipped < UPDATES  # both cases were met
    assert ours.update == UPDATES


def test_begin_starts_at_the_average_with_a_new_optimiser():
    ours = Optimization(network(), SETTINGS)
    ours.begin(UPDATES)
    advance(ours, 0, 10)
    assert not torch.equal(ours.vector, ours.average_vector)
    fresh = Optimization(copy.deepcopy(ours.average).requires_grad_(True), SETTINGS)
    ours.begin(UPDATES)
    fresh.begin(UPDATES)
    assert torch.equal(ours.vector, ours.average_vector)
    advance(ours, 0, 6)
    advance(fresh, 0, 6)
    assert torch.equal(ours.vector, fresh.vector)
    assert torch.equal(ours.average_vector, fresh.average_vector)


def test_begin_settled_lets_the_average_follow_slowly():
    settings = dataclasses.replace(SETTINGS, ema_decay=0.999)
    moved = []
    for settled, updates in ((False, 3000), (True, 3000), (True, 60)):
        ours = Optimization(network(), settings)
        ours.begin(updates, settled)
        before = ours.average_vector.clone()
        advance(ours, 0, 1)
        share = (ours.average_vector - before).norm() / (ours.vector - before).norm()
        moved.append(float(share))
    # Spans of 100 and 60 / 15 updates: decay 1 - (1 + n)^-0.75 for the least whole n that gives 1 -
    # 1/span or more.
    assert moved == pytest.approx([1.0, 465**-0.75, 7**-0.75], rel=1e-3)


@pytest.mark.parametrize("stop", [0, 1, 9])
def test_load_state_dict_goes_on_bit_for_bit(stop):
    whole = Optimization(network(), SETTINGS)
    whole.begin(UPDATES)
    advance(whole, 0, stop)
    state = {name: value.clone() for name, value in whole.state_dict().items()}
    advance(whole, stop, UPDATES)
    torch.manual_seed(5)
    other = nn.Sequential(nn.Linear(3, 5), nn.SiLU(), nn.LayerNorm(5), nn.Linear(5, 2))
    restored = Optimization(other, SETTINGS)
    restored.load_state_dict(state)
    assert (restored.update, restored.updates) == (stop, UPDATES)
    advance(restored, stop, UPDATES)
    assert torch.equal(restored.vector, whole.vector)
    assert torch.equal(restored.average_vector, whole.average_vector)
    for name, value in whole.state_dict().items():
        assert torch.equal(restored.state_dict()[name], value), name
    assert torch.equal(parameters(restored.model), whole.vector)  # the network, not only its vector


def test_state_dict_holds_the_counter_of_the_average():
    """A counter that restarts would copy the parameters into the average at the next
    two updates.
    """
    ours = Optimization(network(), SETTINGS)
    ours.begin(UPDATES)
    advance(ours, 0, 8)
    state = ours.state_dict()
    assert 8 in state["counters"].tolist()[2:]
    restored = Optimization(network(), SETTINGS)
    restored.load_state_dict(state)
    advance(restored, 8, 9)
    assert (restored.average_vector - restored.vector).abs().max() > 1e-4


def test_state_dict_is_a_copy():
    ours = Optimization(network(), SETTINGS)
    ours.begin(UPDATES)
    advance(ours, 0, 3)
    state = ours.state_dict()
    before = {name: value.clone() for name, value in state.items()}
    advance(ours, 3, 6)
    assert all(torch.equal(state[name], before[name]) for name in state)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_step_refuses_a_loss_that_is_not_finite_before_it_changes_anything(bad):
    ours = Optimization(network(), SETTINGS)
    ours.begin(UPDATES)
    advance(ours, 0, 3)
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    with pytest.raises(DivergenceError, match=f"the loss is {bad} at update 3"):
        ours.step(loss_of(ours.model, 3) * bad)
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())


def test_rate_warms_up_and_decays_to_zero():
    settings = OptimizerOptions(learning_rate=1.0, warmup=10)
    rates = [settings.rate(update, 100) for update in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(0.98, abs=0.01)
    assert rates[9] == max(rates)
    assert rates[50] == pytest.approx(0.5)
    assert 0 < rates[99] < 1e-3
    assert OptimizerOptions(learning_rate=1.0, warmup=0).rate(0, 10) == 1.0


def test_way_is_what_the_rates_of_a_task_sum_to_as_the_penalty_falls():
    options = OptimizerOptions(learning_rate=0.1, warmup=2, ema_decay=0.99)
    cosine = [(1 + math.cos(math.pi * i / 4)) / 2 for i in range(4)]
    falling = [0.05 * cosine[0], 0.1 * cosine[1] * 0.75, 0.1 * cosine[2] * 0.5, 0.1 * cosine[3] / 4]
    assert options.way(4) == pytest.approx(sum(falling), rel=1e-12)


def test_nothing_decays_where_the_updates_of_a_task_are_not_known():
    options = OptimizerOptions(learning_rate=0.1, warmup=2, ema_decay=0.99)
    assert [options.rate(i, None) for i in (0, 1, 10**6)] == [0.05, 0.1, 0.1]
    assert options.way(None) == pytest.approx(0.1 * 100)


def test_products_in_bfloat16_give_nearly_the_same_gradient_and_leave_the_rest_float32():
    gradients = {}
    for precision in ("float32", "bfloat16"):
        optimization = Optimization(network(), dataclasses.replace(SETTINGS, precision=precision))
        with optimization.products():
            output = optimization.model(torch.linspace(-1, 1, 24).reshape(8, 3))
        assert output.dtype == getattr(torch, precision)
        gradients[precision] = optimization.differentiate((output - 1.0).square().mean()).clone()
        assert {optimization.vector.dtype, optimization.average_vector.dtype} == {torch.float32}
    error = gradients["bfloat16"] - gradients["float32"]
    assert 0 < error.norm() < 0.03 * gradients["float32"].norm()


@pytest.mark.parametrize("has_units", [False, True])
def test_precision_is_bfloat16_where_the_processor_has_it(monkeypatch, has_units):
    for name in BFLOAT16_UNITS:
        monkeypatch.setattr(torch.cpu, name, lambda: has_units, raising=False)
    here = precision_on(torch.device("cpu"), "auto")
    supported = has_units and torch.backends.mkldnn.is_available()
    assert here == ("bfloat16" if supported else "float32")
    assert precision_on(torch.device("cuda"), "auto") == "float32"
    for wanted in ("float32", "bfloat16"):
        assert precision_on(torch.device("cpu"), wanted) == wanted


def test_descend_refuses_a_gradient_that_is_not_finite():
    ours = Optimization(network(), SETTINGS)
    ours.begin(UPDATES)
    before = ours.vector.clone()
    ours.differentiate(loss_of(ours.model, 0))[3] = math.nan
    with pytest.raises(DivergenceError, match="the gradient is not finite at update 0; lower"):
        ours.descend()
    assert torch.equal(ours.vector, before)


def test_optimizer_options_refuse_an_unknown_precision():
    with pytest.raises(
        ReconvergeError,
        match=r"unknown optimizer.precision 'float16': choose one of auto, float32, bfloat16",
    ):
        check_options(OptimizerOptions(precision="float16"), "optimizer.")
