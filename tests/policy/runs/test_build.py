"""From options to objects: windows, replay and methods of a run."""

import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from reconverge.datasets.layout import StoreWarning
from reconverge.datasets.store import DemonstrationStore, Episode
from reconverge.datasets.uncompressed import Frames
from reconverge.datasets.windows import Windows
from reconverge.envs.catalog import task_sequence, widest
from reconverge.envs.evaluator import Evaluator
from reconverge.envs.seeds import REPLAY
from reconverge.envs.suites.metaworld.fifty import CW10
from reconverge.errors import ReconvergeError
from reconverge.policy.continual.denoising import mixture
from reconverge.policy.continual.kfac import Kfac
from reconverge.policy.continual.methods.ewc import EwcOptions
from reconverge.policy.continual.methods.finetune import FinetuneOptions
from reconverge.policy.continual.methods.trust_region import TrustRegionOptions
from reconverge.policy.continual.rehearsal import DrawnReplay, EpisodicMemory, GeneratedReplay
from reconverge.policy.demonstrations import supply
from reconverge.policy.model.networks.mlp import MLPOptions
from reconverge.policy.runs.build import (
    ROLLOUT_EPISODES,
    TaskWindows,
    check_parts,
    make_method,
    make_replay,
    make_spec,
    make_windows,
    open_stores,
)
from reconverge.policy.runs.configuration import (
    GROUPS,
    REPLAYS,
    DemonstrationOptions,
    DemonstrationReplayOptions,
    NoReplayOptions,
    RolloutReplayOptions,
)
from reconverge.policy.runs.loading import TASK_ROWS, make_normalizer, make_policy
from support.stores import store_from_elsewhere
from support.tiny import Episodes
from support.tiny import make_normalizer as make_tiny_normalizer
from support.tiny import make_policy as make_tiny_policy
from support.tiny import make_windows as make_tiny_windows
from support.tiny_checkpoint import make_spec as make_tiny_spec
from support.tiny_run import make_options

CPU = torch.device("cpu")
TINY = make_tiny_spec(action_size=2, observation_size=3)


def test_task_windows_sample_batches_of_their_task():
    steps = np.arange(5, dtype=np.float32)
    rows = np.stack([steps, -steps, 0 * steps], axis=1)
    windows = Windows.from_episodes(rows, rows[:, :2], np.array([2, 5]), 2, 3)
    batch = TaskWindows(windows, 1).sample(30, torch.Generator().manual_seed(0))
    assert batch.task.eq(1).all()
    assert batch.observations.shape == (30, 2, 3)
    now = batch.observations[:, -1, 0]
    assert set(now.tolist()) == {0, 1, 2, 3, 4}
    assert torch.equal(batch.actions[:, 0, 0], now)


def test_make_spec_describes_the_policy_that_make_policy_builds():
    options = make_options(network=MLPOptions(width=8, depth=2, diffusion_step_embed_dim=4))
    tasks = task_sequence(options.env)
    spec = make_spec(options, tasks)
    size, _ = widest("robosuite")
    assert (spec.tasks, spec.observation_size, spec.action_size) == (["lift", "can"], size, 7)
    policy = make_policy(spec, make_normalizer(spec, tasks))
    assert len(policy.network.blocks) == 2
    assert policy.options == options.policy
    assert policy.diffusion.options == options.diffusion
    assert spec.network["name"] == "mlp"  # building it takes nothing from the spec
    seen, task = torch.zeros(3, 2, size), torch.tensor([0, 1, 0])
    assert policy.condition(seen, task).shape == (3, 2 * size * 7 + TASK_ROWS)


def test_make_spec_keeps_the_width_of_a_run_and_refuses_wider_tasks():
    options = make_options(env=["lift", "can", "stack"])
    tasks, begun = task_sequence(options.env), make_tiny_spec()
    assert make_spec(options, tasks[:2], begun).observation_size == 23
    with pytest.raises(
        ReconvergeError,
        match=r"^env=lift,can,stack: the run's policy is made for 23 numbers in an observation, "
        r"stack has 32; begin a new run with all of them, or with room_for=robosuite$",
    ):
        make_spec(options, tasks, begun)


def test_make_spec_of_unlike_tasks_is_as_wide_as_the_widest_of_both_suites():
    options = make_options(env=["hammer", "lift"])
    tasks = task_sequence(options.env)
    spec = make_spec(options, tasks)
    assert (spec.observation_size, spec.action_size) == (39, 7)
    assert spec.action_sizes == {"hammer": 4}
    mask = make_policy(spec, make_normalizer(spec, tasks)).action_mask
    assert mask.sum(1).tolist() == [4] + [7] * (TASK_ROWS - 1)
    assert mask[0, :4].all()
    alone = make_spec(options, tasks[:1])
    assert (alone.action_size, alone.action_sizes) == (4, {})
    with pytest.raises(
        ReconvergeError,
        match=r"^env=hammer,lift: the run's policy is made for 4 numbers in an action, lift has 7; "
        r"begin a new run with all of them, or with room_for=robosuite$",
    ):
        make_spec(options, tasks, alone)


def test_make_spec_has_room_for_another_suite():
    options = make_options(env=["lift"])
    tasks = task_sequence(options.env)
    sizes = []
    for suite in (None, "robosuite", "metaworld"):
        spec = make_spec(replace(options, room_for=suite), tasks)
        sizes.append((spec.observation_size, spec.action_size, spec.action_sizes))
    assert sizes == [(32, 7, {}), (32, 7, {}), (39, 7, {})]


def test_make_windows_pads_the_actions_of_a_smaller_task(tmp_path):
    tasks = task_sequence(["lift", "hammer"])
    store = DemonstrationStore.create(tmp_path / "hammer.zarr", tasks[1].sizes, 4, {})
    seen, last = np.zeros((5, 39), np.float32), np.arange(5) == 4
    actions = np.full((5, 4), 0.5, np.float32)
    store.append(Episode(tasks[1].split(seen), actions, last.astype(np.float32), last))
    options = make_options(env=["lift", "hammer"])
    windows = make_windows(options, make_spec(options, tasks), store, tasks[1], CPU, len(store))()
    batch = windows.sample(20, torch.Generator().manual_seed(0))
    assert batch.actions[..., :4].eq(0.5).all()
    assert batch.actions.shape == (20, 4, 7)
    assert not batch.actions[..., 4:].any()
    assert windows.episode_bytes.tolist() == [5 * 4 * (39 + 4)]


def test_make_windows_reads_the_first_episodes_within_the_bounds(tmp_path):
    (task,) = task_sequence(["lift"])
    store = DemonstrationStore.create(tmp_path / "lift.zarr", task.sizes, 7, {})
    for episode, length in enumerate((3, 4, 5)):
        seen = np.full((length, task.observation_size), 9.0 - 9 * episode, np.float32)
        actions = np.full((length, 7), 0.1 * (episode + 1), np.float32)
        last = np.arange(length) == length - 1
        store.append(Episode(task.split(seen), actions, last.astype(np.float32), last))
    options = make_options(env=["lift"], demonstrations=DemonstrationOptions(episodes=2))
    spec = make_spec(options, [task])  # can, of the same suite, observes more
    windows = make_windows(options, spec, store, task, CPU, options.demonstrations.episodes)()
    batch = windows.sample(200, torch.Generator().manual_seed(0))
    assert batch.observations.shape == (200, 2, spec.observation_size)
    size = task.observation_size
    seen = batch.observations[..., :size]
    assert (seen >= torch.from_numpy(task.low)).all()
    assert (seen <= torch.from_numpy(task.high)).all()
    assert (seen == torch.from_numpy(task.high)).any()
    assert not batch.observations[..., size:].any()
    first = torch.tensor([0.1, 0.2])  # the third episode is left out
    assert torch.equal(batch.actions[:, 0, 0].unique(), first)


def add_scripted(store, task, count):
    """Append episodes of 3 steps as our own expert would, each with actions of its own."""
    last = np.arange(3) == 2
    for _ in range(count):
        seen = np.tile(task.low, (3, 1)).astype(np.float32)
        actions = np.full((3, 7), 0.1 * len(store), np.float32)
        store.append(Episode(task.split(seen), actions, last.astype(np.float32), last))


def test_open_stores_goes_on_with_the_episodes_that_a_run_began_with(tmp_path):
    """A store of fewer than asked for is warned of at the start alone, and may grow."""
    (task,) = task_sequence(["lift"])
    store = DemonstrationStore.create(
        tmp_path / "lift.zarr", task.sizes, 7, {"task": "lift", "expert": "lift", "noise": 0.2}
    )
    add_scripted(store, task, 3)
    wanted = DemonstrationOptions(path=str(tmp_path), episodes=5, collect=False)
    options = make_options(env=["lift"], demonstrations=wanted)
    with pytest.warns(StoreWarning, match=r"lift\.zarr: has 3 of demonstrations\.episodes=5, and"):
        _, begun = open_stores(options, [task], tmp_path, {})
    assert begun["lift"]["episodes"] == 3
    add_scripted(store, task, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error", StoreWarning)
        (grown,), found = open_stores(options, [task], tmp_path, begun)
        open_stores(options, [task], tmp_path, {})  # another run learns from five
    assert found["lift"]["sha256"] == begun["lift"]["sha256"]
    spec = make_spec(options, [task])
    read = make_windows(options, spec, grown, task, CPU, found["lift"]["episodes"])
    assert len(read().episode_bytes) == 3


def test_open_stores_looks_once_at_what_a_complete_store_holds(tmp_path, monkeypatch, simulator_of):
    (task,) = task_sequence(["lift"])
    store_from_elsewhere(simulator_of(task), tmp_path / "lift.zarr")
    looked = []
    monkeypatch.setattr(
        supply, "identity", lambda *a: looked.append(a) or {"origin": "brought", "episodes": 2}
    )
    options = make_options(env=["lift"], demonstrations=DemonstrationOptions(path=str(tmp_path)))
    open_stores(options, [task], tmp_path, {})
    assert len(looked) == 1


@pytest.mark.parametrize("name", REPLAYS)
def test_make_replay_makes_every_source(name):
    options = make_options(replay=REPLAYS[name]())
    replay = make_replay(options, TINY, make_tiny_normalizer(), [], None)
    if name == "none":
        assert replay is None
        return
    kinds = {"generator": GeneratedReplay, "demonstrations": EpisodicMemory}
    assert isinstance(replay.source, kinds.get(name, DrawnReplay))
    assert (replay.batch_size, replay.pool) == (options.replay.batch_size, options.replay.pool)


def test_make_replay_of_demonstrations_draws_from_the_stores():
    options = make_options(replay=DemonstrationReplayOptions())
    windows = [lambda task=task: Episodes(task) for task in (0, 1)]
    replay = make_replay(options, TINY, make_tiny_normalizer(), windows, None)
    stream = torch.Generator().manual_seed(0)
    drawn = replay.source.draw(None, 1, 5, stream)
    expected = make_tiny_windows(1).sample(5, torch.Generator().manual_seed(0))
    assert torch.equal(drawn.observations, expected.observations)
    assert drawn.task.eq(1).all()


def make_episodes(task, lengths):
    """Episodes of 3 + 2 entries a step, one of them padding."""
    steps = np.arange(sum(lengths), dtype=np.float32)
    rows = np.stack([steps, -steps, 0 * steps], axis=1)
    windows = Windows.from_episodes(rows, rows[:, :2], np.cumsum(lengths), 2, 3)
    return TaskWindows(windows, task, padding=1)


def test_task_windows_know_the_bytes_of_episodes_and_select_some():
    windows = make_episodes(1, [2, 4, 3])
    assert windows.episode_bytes.tolist() == [32, 64, 48]
    chosen = windows.select(torch.tensor([0, 2]))
    assert chosen.episode_bytes.tolist() == [32, 48]
    batch = chosen.sample(90, torch.Generator().manual_seed(0))
    assert set(batch.observations[:, -1, 0].tolist()) == {0, 1, 6, 7, 8}
    assert batch.task.eq(1).all()


def test_pictures_count_in_the_bytes_of_episodes_and_are_not_drawn_into_memory():
    windows = make_episodes(1, [2, 4])
    frames = Frames([np.zeros((6, 4, 4, 3), np.uint8)] * 2)
    seeing = replace(windows, windows=replace(windows.windows, frames=frames))
    assert seeing.episode_bytes.tolist() == [2 * (16 + 96), 4 * (16 + 96)]
    stream = torch.Generator().manual_seed(0)
    assert seeing.pool(5, stream) is seeing
    assert len(windows.pool(5, stream)) == 5
    drawn = mixture([seeing, replace(seeing, task=0)]).sample(40, stream)
    assert drawn.observations.shape == (40, 2, 3 + 96)
    assert 10 < drawn.task.sum() < 30


def test_make_replay_of_few_demonstrations_keeps_what_the_budget_allows():
    windows = [lambda task=task: make_episodes(task, [2] * 30) for task in (0, 1)]
    kept = {}
    for unit, amount in (("episodes", 3), ("bytes", 4 * 32 - 1)):
        chosen = DemonstrationReplayOptions(budget=amount, budget_unit=unit)
        options = make_options(replay=chosen, seed=5)
        source = make_replay(options, TINY, make_tiny_normalizer(), windows, None).source
        assert source.budget.seed == 5
        list(source.end_task(0, windows[0](), torch.Generator()))
        kept[unit] = len(source.kept(0).episode_bytes)
        assert source.memory_bytes == 3 * 32
        drawn = source.draw(None, 0, 200, torch.Generator().manual_seed(0))
        assert len(drawn.observations[:, -1, 0].unique()) == 6
    assert kept == {"episodes": 3, "bytes": 3}


@pytest.mark.parametrize(
    ("amount", "unit", "read"), [(1, "episodes", False), (2, "episodes", True), (63, "bytes", True)]
)
def test_make_replay_refuses_a_budget_without_an_episode_of_each_task(amount, unit, read):
    windows = [lambda task=task: make_episodes(task, [2] * 9) for task in range(4)]
    spec = make_tiny_spec(list(CW10[:4]))
    normalizer = make_normalizer(spec, [])
    chosen = DemonstrationReplayOptions(budget=amount, budget_unit=unit)
    least = 3 if unit == "episodes" else 3 * 31 + 3
    with pytest.raises(ReconvergeError, match=f"budget={amount} {unit}: .*at least {least}, or"):
        make_replay(make_options(replay=chosen), spec, normalizer, windows if read else [], None)


class Rollouts(Evaluator):
    """An evaluator whose episodes of these seeds succeed, one plan each."""

    def __init__(self, solved):
        super().__init__([], slots=1)
        self.solved = solved

    def rollouts(self, actor, task, seeds):
        self.asked = seeds
        for seed in seeds:
            actor.begin(0, seed)
            actor.act([0], np.full((1, 2, 3), seed % 7, np.float32))
        return [SimpleNamespace(seed=seed, success=seed in self.solved) for seed in seeds]


def test_make_replay_of_rollouts_keeps_the_successes_of_the_policy():
    evaluator = Rollouts({REPLAY[3], REPLAY[5]})
    options = make_options(replay=RolloutReplayOptions())
    replay = make_replay(options, TINY, make_tiny_normalizer(), [], evaluator)
    policy = make_tiny_policy()
    drawn = replay.source.draw(policy, 0, 40, torch.Generator().manual_seed(0))
    assert evaluator.asked == REPLAY[:ROLLOUT_EPISODES]
    wanted = {float(seed % 7) for seed in evaluator.solved}
    assert len(wanted) == 2
    assert set(drawn.observations[:, 0, 0].tolist()) == wanted
    assert drawn.actions.shape == (40, 3, 2)
    evaluator.solved = set()
    with pytest.raises(ReconvergeError, match="replay=rollout: the previous policy solved none"):
        replay.source.draw(policy, 0, 40, torch.Generator())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"batch_size": 1}, "batch_size=1: the generator's batches hold every task: at least 2"),
        (
            {"batch_size": 1, "method": GROUPS["method"]["multitask"]()},
            "batch_size=1: method=multitask's batches hold every task: at least 2",
        ),
        (
            {"method": EwcOptions(radius=1.0), "fisher": Kfac()},
            "method.radius with fisher=kfac and method.centre=each_optimum",
        ),
        ({"n_action_steps": 9}, "n_action_steps=9: must be 1 to horizon=4"),
        ({"network": MLPOptions(diffusion_step_embed_dim=7)}, "timestep embedding of size 7"),
        (
            {"method": GROUPS["method"]["replay"](), "replay": NoReplayOptions()},
            "method=replay replay=none would replay nothing",
        ),
    ],
)
def test_check_parts_refuses_what_only_the_parts_can_tell(changes, said):
    options = make_options(**changes)
    with pytest.raises(ReconvergeError, match=said):
        check_parts(options, task_sequence(options.env))


EWC = TrustRegionOptions(centre="before_task", strength=1.0)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"batch_size": 1, "method": FinetuneOptions()},  # trains no generator
        {"batch_size": 1, "replay": DemonstrationReplayOptions()},
        {"replay": NoReplayOptions(), "method": EWC},
    ],
    ids=str,
)
def test_check_parts_takes_what_a_run_can_use(changes):
    options = make_options(**changes)
    check_parts(options, task_sequence(options.env))


def test_make_method_of_multitask_reads_the_windows_of_all_tasks():
    options = make_options(method=GROUPS["method"]["multitask"](), batch_size=4)
    read = []
    windows = [lambda task=task: read.append(task) or make_tiny_windows(task) for task in (0, 1)]
    method = make_method(options, TINY, make_tiny_policy(), None, windows)
    method.begin_task(0, 2)
    assert read == []
    for _ in range(2):
        method.update(make_tiny_windows(0, 4))
    assert read == [0, 1]
