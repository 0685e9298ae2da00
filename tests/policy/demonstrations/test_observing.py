import numpy as np
import pytest

from reconverge.datasets.formats.arrays import ConversionError
from reconverge.datasets.formats.exchange import Demonstrations, make_episode
from reconverge.envs.catalog import TASKS
from reconverge.policy.demonstrations.observing import observed
from support.physics import record


@pytest.fixture(scope="module")
def recorded(simulator_of):
    return record(simulator_of(TASKS["lift"]), seed=4)


def demonstrations(states, actions):
    """As people's files have them: states, and observations of another kind."""
    rows = {
        "action": actions.astype(np.float32),
        "states": states.astype(np.float32),
        "ee_pos": np.ones((len(actions), 3), np.float32),
    }
    return Demonstrations(
        source="people.hdf5",
        count=1,
        episodes=[(make_episode(rows, ["ee_pos"]), {})],
        observation_sizes={"ee_pos": 3},
        action_size=7,
        extra_sizes={"states": states.shape[1]},
    )


def test_observed_makes_the_tasks_observations_of_states(recorded):
    """As the simulator observed them, but for the 2 ms by which a state is newer than the poses."""
    observations, actions, states = recorded
    task = TASKS["lift"]
    made = observed(demonstrations(states, actions), task)
    assert (made.observation_sizes, made.extra_sizes) == (
        task.sizes,
        {"states": states.shape[1], "ee_pos": 3},
    )
    [(episode, _)] = made.episodes
    flat = np.concatenate(list(episode.observations.values()), axis=1)
    np.testing.assert_allclose(flat, observations, atol=5e-3)
    np.testing.assert_array_equal(episode.extras["ee_pos"], 1.0)
    np.testing.assert_allclose(episode.extras["states"], states, atol=1e-6)


def test_observed_says_what_is_missing(recorded):
    _, actions, states = recorded
    whole = demonstrations(states, actions)
    with pytest.raises(ConversionError, match="of which task it is cannot be told; add task="):
        observed(whole, None)
    with pytest.raises(ConversionError, match="hammer starts from seeds only"):
        observed(whole, TASKS["hammer"])
    with pytest.raises(ConversionError, match="has no array 'states'"):
        observed(Demonstrations("x", 0, [], {"ee_pos": 3}, 7), TASKS["lift"])


def test_observed_names_the_episode_of_a_state_of_another_size(recorded):
    _, actions, states = recorded
    made = observed(demonstrations(states[:, :-1], actions), TASKS["lift"])
    with pytest.raises(ConversionError, match=r"people\.hdf5: episode 0: lift: a state has"):
        list(made.episodes)
