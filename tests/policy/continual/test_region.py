"""The trust region: its strength, its centre, and what it does to the parameters."""

import pytest
import torch

from reconverge.errors import ReconvergeError
from reconverge.policy.continual.denoising import (
    corrupt,
    half_squared_errors,
    imagined,
    random_stream,
)
from reconverge.policy.continual.fisher import FISHERS, Rank1
from reconverge.policy.continual.parameter_vector import concatenate
from reconverge.policy.continual.quadratic import Diagonal, DiagonalForm
from reconverge.policy.continual.region import (
    CENTRES,
    PENALTY_EVERY,
    TrustRegion,
    step_that_holds,
)
from support.forms import random_form
from support.tiny import make_policy, make_windows


def make_region(form, strength=1.0, centre="each_optimum", **options):
    """A region that already holds the past tasks of `form`."""
    region = TrustRegion(Rank1(), strength=strength, centre=centre, **options)
    region.form = form
    return region


def test_hold_pulls_with_half_the_strength_times_the_form():
    form, _, theta = random_form()
    moved = theta.clone()
    metrics = make_region(form, 3.0).hold(moved, 0.01, PENALTY_EVERY, 100)
    penalty = pytest.approx(1.5 * form.value(moved), rel=1e-6)
    assert metrics == {"penalty": penalty, "strength": 3.0}
    # stationarity of |x - theta|^2 / (2 rate) + strength/2 value(x)
    gradient = (moved - theta) / (PENALTY_EVERY * 0.01) + 1.5 * form.gradient(moved)
    assert gradient.abs().max() < 1e-8


def test_hold_does_nothing_between_its_turns():
    form, _, theta = random_form()
    region, moved = make_region(form, 3.0), theta.clone()
    for update in range(1, PENALTY_EVERY):
        assert region.hold(moved, 0.01, update, 100) == {}
    assert torch.equal(moved, theta)


def test_hold_with_a_shared_strength_is_as_stiff_after_many_tasks_as_after_one():
    form, _, theta = random_form(tasks=3)
    shared, alone = theta.clone(), theta.clone()
    average = make_region(form, 6.0, "each_optimum_shared")
    single = make_region(form, 2.0, "each_optimum")
    assert average.hold(shared, 0.01, 0, 100) == single.hold(alone, 0.01, 0, 100)
    assert torch.equal(shared, alone)


def test_hold_before_a_task_falls_to_nothing_over_the_task():
    form, _, theta = random_form(tasks=1)
    falling, constant = theta.clone(), theta.clone()
    region = make_region(form, 4.0, "before_task")
    expected = make_region(form, 1.0).hold(constant, 0.01, 60, 80)
    assert region.hold(falling, 0.01, 60, 80) == expected
    assert torch.equal(falling, constant)
    assert region.hold(falling, 0.01, 80, 80) == {"penalty": 0.0, "strength": 0.0}
    assert torch.equal(falling, constant)


@pytest.mark.parametrize("centre", CENTRES)
@pytest.mark.parametrize("tasks", [0, 1, 3])
def test_strength_at_is_shared_and_falls_as_the_centre_says(centre, tasks):
    metrics = min(tasks, 1) if centre == "replayed" else tasks  # that is one, of a mixture
    region = make_region(random_form(tasks=metrics)[0], 6.0, centre)
    is_shared = centre in ("before_task", "each_optimum_shared")
    shared = 6.0 / max(1, tasks) if is_shared else 6.0
    found = [region.strength_at(update, 8) for update in (0, 2, 8)]
    falls = centre in ("before_task", "replayed")
    wanted = [1.0, 0.75, 0.0] if falls else [1.0, 1.0, 1.0]
    assert found == pytest.approx([shared * share for share in wanted])


@pytest.mark.parametrize("centre", CENTRES)
def test_shared_by_is_what_each_of_several_tasks_has_of_the_strength(centre):
    """A mixture's metric is the mean of its tasks', so that each has its part of the strength."""
    expected = 1 if centre in ("each_optimum", "newest_optimum") else 3
    assert make_region(random_form(tasks=1)[0], 6.0, centre).shared_by(3) == expected


def test_hold_with_a_radius_ends_inside_after_every_update():
    form, _, theta = random_form(tasks=1)
    region = make_region(form, radius=0.5)
    for update in range(1, 6):
        theta += torch.randn(
            theta.shape, dtype=theta.dtype, generator=torch.Generator().manual_seed(update)
        )
        metrics = region.hold(theta, 0.01, update, 100)
        assert metrics == {"trust_region": form.value(theta)}
        assert metrics["trust_region"] <= 0.5


def test_hold_with_a_radius_of_zero_stays_at_the_optimum():
    """It is the hardest limit, not none."""
    form, _, theta = random_form(tasks=1)
    before = form.value(theta)
    metrics = make_region(form, radius=0.0).hold(theta, 0.01, 1, 100)
    assert metrics == {"trust_region": pytest.approx(0.0, abs=1e-9 * before)}


def learned_twice(name, targets, centre):
    """A region after two tasks, at whose ends the policy was at the returned parameters."""
    region = TrustRegion(FISHERS[name](samples=700, targets=targets), strength=1.0, centre=centre)
    thetas = []
    for task in range(2):
        policy = make_policy(seed=task)
        thetas.append(concatenate(dict(policy.network.named_parameters())))
        stream = random_stream(torch.device("cpu"), task)
        region.end_task(policy, make_windows(task), thetas[-1], stream)
    return region, thetas


@pytest.mark.parametrize("targets", ["demonstrations", "policy"])
def test_end_task_takes_the_fisher_over_batches_of_noisy_samples(targets):
    region, thetas = learned_twice("diagonal", targets, "each_optimum")
    form = region.fisher.form()
    for task in range(2):
        policy, stream = make_policy(seed=task), random_stream(torch.device("cpu"), task)
        windows = make_windows(task)
        drawn = [corrupt(policy, windows.sample(n, stream), stream) for n in (512, 188)]
        if targets == "policy":
            drawn = [imagined(policy, sample, stream) for sample in drawn]
        parameters = dict(policy.network.named_parameters())
        batches = [sample.tensors for sample in drawn]
        form.add(region.fisher.estimate(half_squared_errors(policy), parameters, batches))
    assert len(region.form) == 2
    theta = thetas[0] + 0.1
    assert region.form.value(theta) == form.value(theta) > 0


@pytest.mark.parametrize("name", FISHERS)
def test_end_task_before_a_task_centres_all_past_tasks_on_the_last_policy(name):
    """As stiff as around each optimum: the Hessian is the same."""
    recentred, (_, theta) = learned_twice(name, "policy", "before_task")
    apart, _ = learned_twice(name, "policy", "each_optimum")
    moved = theta + torch.linspace(-1, 1, len(theta))
    stiffness = apart.form.gradient(moved) - apart.form.gradient(theta)
    value = 0.5 * float((moved - theta) @ stiffness)
    assert recentred.form.value(moved) == pytest.approx(value, rel=1e-3)
    assert recentred.form.value(theta) <= 1e-6 * value
    assert apart.form.value(theta) > 1e-3 * recentred.form.value(moved)
    centre = theta.clone()
    theta += 1.0  # the form keeps its own copy
    assert recentred.form.value(centre) <= 1e-6 * value


@pytest.mark.parametrize("name", FISHERS)
def test_begin_task_takes_the_metric_anew_on_replayed_samples(name):
    fisher = FISHERS[name](samples=100, targets="policy")
    region = TrustRegion(fisher, strength=1.0, centre="replayed")
    policy, cpu = make_policy(seed=1), torch.device("cpu")
    theta = concatenate(dict(policy.network.named_parameters()))
    region.end_task(policy, make_windows(0), theta, random_stream(cpu, 0))
    assert (len(region.form), region.state_dict()) == (0, {})
    moved = theta + 0.1
    values = []
    for task in (0, 0, 1):
        region.begin_task(policy, make_windows(task), random_stream(cpu, 1), 1.0, 1)
        assert len(region.form) == 1
        assert region.form.value(theta) == pytest.approx(0, abs=1e-9)
        values.append(region.form.value(moved))
    assert values[0] == values[1] != values[2]
    region.begin_task(policy, None, random_stream(cpu, 1), 1.0, 1)
    assert region.form.value(moved) == values[2]


@pytest.mark.parametrize("name", ["diagonal", "kfac"])
def test_share_chooses_the_strength_by_the_effective_number_of_parameters(name):
    fisher = FISHERS[name](samples=100)
    region = TrustRegion(fisher, share=0.1, centre="replayed")
    policy, way = make_policy(seed=1), 2e-3
    stream = random_stream(torch.device("cpu"), 1)
    region.begin_task(policy, make_windows(0), stream, way, past=2)
    curvatures = region.form.spectrum()
    held = region.strength * way * curvatures
    expected = (1 - 0.8**2) / 2 * int((curvatures > 0).sum())
    assert float((held / (1 + held)).sum()) == pytest.approx(expected, rel=1e-4)
    assert region.strength_at(2, 4) == pytest.approx(0.5 * region.strength)


@pytest.mark.parametrize(("past", "expected"), [(1, 0.1), (9, 0.433), (1000, 0.5)])
def test_share_leaves_half_of_the_parameters_free(past, expected):
    region = TrustRegion(FISHERS["diagonal"](samples=100), share=0.1, centre="replayed")
    policy, stream = make_policy(seed=1), random_stream(torch.device("cpu"), 1)
    region.begin_task(policy, make_windows(0), stream, 1e-3, past=1)
    curvatures = region.form.spectrum()
    held = region.strength_of(region.form, 1e-3, past) * 1e-3 * curvatures
    count = int((curvatures > 0).sum())
    assert float((held / (1 + held)).sum()) == pytest.approx(expected * count, rel=1e-3)


def test_share_does_not_count_parameters_that_nothing_reaches():
    felt = torch.logspace(-3, 3, 50)
    steps = []
    for unfelt in (0, 1000):
        form = DiagonalForm()
        curvatures = torch.cat([felt, torch.zeros(unfelt)])
        form.add(Diagonal(curvatures, torch.zeros_like(curvatures)))
        steps.append(step_that_holds(form, 0.5))
    assert steps[0] == pytest.approx(steps[1], rel=1e-6)
    assert step_that_holds(DiagonalForm(), 0.5) == 0.0


def test_region_needs_a_strength_where_a_share_chooses_none():
    with pytest.raises(ReconvergeError, match=r"method\.strength=null with method\.centre=before_"):
        TrustRegion(FISHERS["diagonal"](), share=0.1, centre="before_task")
    for name in ("rank1", "low_rank"):
        with pytest.raises(ReconvergeError, match=f"fisher={name}: its few directions are"):
            TrustRegion(FISHERS[name](), share=0.1, centre="replayed")
    assert (
        TrustRegion(FISHERS["diagonal"](), strength=3.0, share=0.1, centre="replayed").share is None
    )


def test_a_strength_of_zero_is_a_strength():
    """No penalty, as the control of an experiment, and not what the share would choose."""
    region = TrustRegion(FISHERS["diagonal"](), strength=0.0, share=0.1, centre="replayed")
    assert (region.strength, region.share) == (0.0, None)
