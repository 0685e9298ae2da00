"""The stores of a run: found, recorded, and the same again."""

import shutil
from dataclasses import replace

import pytest

from reconverge.datasets.store import DemonstrationStore, StoreError
from reconverge.envs.catalog import TASKS, task_sequence
from reconverge.errors import ReconvergeError
from reconverge.policy.demonstrations import scripted
from reconverge.policy.demonstrations.supply import (
    announce,
    complete,
    find_stores,
    identities,
    identity,
    require_all,
    require_same,
)
from support.simulators import use_simulators
from support.stores import store_from_elsewhere

LIFT = replace(TASKS["lift"], max_steps=120)
OPTIONS = {"noise": 0.2, "workers": 1}


@pytest.fixture(autouse=True)
def small(monkeypatch, simulator_of):
    use_simulators(monkeypatch, "robosuite", simulator_of)
    monkeypatch.setattr(scripted, "SLOTS", 2)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory, simulator_of):
    """A folder with two episodes of lift."""
    folder = tmp_path_factory.mktemp("recorded")
    with pytest.MonkeyPatch.context() as patch:
        use_simulators(patch, "robosuite", simulator_of)
        complete([LIFT], {}, folder, episodes=2, **OPTIONS)
    return folder


def test_complete_takes_a_store_from_elsewhere_as_it_is(tmp_path, simulator_of):
    store_from_elsewhere(simulator_of(TASKS["lift"]), tmp_path / "lift.zarr")
    found = find_stores([LIFT], tmp_path)
    (store,) = complete([LIFT], found, tmp_path, episodes=6, **OPTIONS)
    assert store is found["lift"]
    assert len(store) == 2
    assert identities(found, [LIFT], 6)["lift"]["origin"] == "brought"


def test_find_stores_refuses_one_that_does_not_fit(tmp_path, simulator_of):
    store_from_elsewhere(simulator_of(TASKS["lift"]), tmp_path / "can.zarr")
    with pytest.raises(StoreError, match="is of lift, wanted can"):
        find_stores([TASKS["can"]], tmp_path)


def test_find_stores_refuses_a_link_to_a_store_that_is_gone(tmp_path):
    (tmp_path / "lift.zarr").symlink_to(tmp_path / "elsewhere.zarr")
    with pytest.raises(
        StoreError, match=r"lift\.zarr: is a link to .*elsewhere\.zarr, which is not"
    ):
        find_stores([LIFT], tmp_path)


def test_identity_is_of_the_episodes_that_are_used(tmp_path, recorded, capsys):
    shutil.copytree(recorded / "lift.zarr", tmp_path / "lift.zarr")
    before = identity(DemonstrationStore.open(recorded / "lift.zarr"), LIFT, 2)
    complete([LIFT], find_stores([LIFT], tmp_path), tmp_path, episodes=3, **OPTIONS)
    said = capsys.readouterr().err
    assert "2/3" in said  # the bar begins with what is there
    assert "0/3" not in said
    grown = DemonstrationStore.open(tmp_path / "lift.zarr")
    assert len(grown) == 3
    assert identity(grown, LIFT, 2)["sha256"] == before["sha256"]
    assert identity(grown, LIFT, 3)["sha256"] != before["sha256"]
    assert identity(grown, LIFT, 1)["sha256"] != before["sha256"]
    assert (before["origin"], before["episodes"]) == ("scripted", 2)
    assert before["path"] == str(recorded / "lift.zarr")


def test_complete_lets_a_store_that_a_run_began_with_be(tmp_path, recorded):
    shutil.copytree(recorded / "lift.zarr", tmp_path / "lift.zarr")
    found = find_stores([LIFT], tmp_path)
    begun = identities(found, [LIFT], 2)
    (store,) = complete([LIFT], found, tmp_path, episodes=3, begun=begun, **OPTIONS)
    assert len(store) == 2


def test_require_same_says_what_is_gone_and_what_is_another(tmp_path, recorded):
    found = identities(find_stores([LIFT], recorded), [LIFT], 2)
    require_same(found, found, recorded)
    require_same(found, {}, recorded)
    with pytest.raises(
        ReconvergeError, match=r"lift.zarr: is gone, .*\(2 scripted\); bring it back"
    ):
        require_same({}, found, tmp_path)
    other = {"lift": {**found["lift"], "sha256": "0", "episodes": 7, "origin": "brought"}}
    with pytest.raises(ReconvergeError, match=r"other demonstrations \(7 brought from elsewhere\)"):
        require_same(other, found, tmp_path)


def test_require_all_names_every_store_that_is_missing(recorded):
    tasks = task_sequence("lift,can,square")
    found = find_stores(tasks, recorded)
    with pytest.raises(ReconvergeError, match=r"has no can.zarr, square.zarr; correct demon"):
        require_all(tasks, found, recorded)
    require_all(tasks[:1], found, recorded)
    with pytest.raises(StoreError, match="is of lift, wanted can"):
        require_all(tasks[1:2], {"can": found["lift"]}, recorded)


def test_announce_says_what_was_found_and_what_will_be_made(recorded, capsys):
    tasks = task_sequence("lift,can,lift_2")
    announce(tasks, identities(find_stores(tasks, recorded), tasks, 2), recorded, 2)
    said = capsys.readouterr().out
    expected = (
        f"demonstrations in {recorded}: found lift (2 scripted); to be recorded (2 each): can"
    )
    assert expected in said
