"""Vectors become the observations of a task."""

import numpy as np
import pytest

from reconverge.datasets.formats.arrays import ConversionError
from reconverge.datasets.formats.demonstration_store import read_store, write_store
from reconverge.datasets.formats.exchange import Demonstrations
from reconverge.datasets.formats.split import parse_split, split
from reconverge.datasets.layout import Episode
from reconverge.datasets.store import DemonstrationStore

STATE = np.arange(15, dtype=np.float32).reshape(3, 5)
COUNT = np.array([[1, 2], [3, 4], [5, 6]])


def make(**changes):
    episode = Episode(
        {"state": STATE, "other": STATE[:, :1]}, np.ones((3, 1)), extras={"count": COUNT}
    )
    given = {
        "source": "here",
        "count": 1,
        "episodes": [(episode, {})],
        "observation_sizes": {"state": 5, "other": 1},
        "action_size": 1,
        "extra_sizes": {"count": 2},
        "types": {"count": "int64", "action": "float64"},
        "absent": ("reward", "success"),
        "attributes": {"row_shapes": {"state": [5, 1]}},
    }
    return Demonstrations(**{**given, **changes})


def test_split_makes_observations_in_the_place_of_vectors(tmp_path):
    parts = parse_split("state=eef:3, quat:2; count=left:1,right:1")
    write_store(split(make(), parts), tmp_path / "a.zarr")
    store = DemonstrationStore.open(tmp_path / "a.zarr")
    sizes = {"eef": 3, "quat": 2, "other": 1, "left": 1, "right": 1}
    assert list(store.observation_sizes.items()) == list(sizes.items())
    found = store.read()
    np.testing.assert_array_equal(found["eef"], STATE[:, :3])
    np.testing.assert_array_equal(found["quat"], STATE[:, 3:])
    np.testing.assert_array_equal(found["right"], COUNT[:, 1:])
    assert (found["quat"].dtype, found["left"].dtype) == (np.float32, np.float64)
    assert store.attributes["row_shapes"] == {}
    assert read_store(store.path).extra_sizes == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("state=eef:3,quat:3", ["gives state 6 numbers, it has 5"]),
        ("stat=eef:3", ["names stat; choose from state, other, count"]),
        ("state=other:3,quat:2", ["gives the name other twice"]),
        ("state=action:3,quat:2", ["gives the name action twice"]),
        ("state=a:3,a:2", ["gives the name a twice"]),
        ("state=a:5,b:0", ["gives b no number"]),
        (
            "state=a:3;count=a:1,reward:1;none=b:1",
            [
                "gives state 3 numbers",
                "gives the name a twice",
                "gives the name reward twice",
                "names none",
            ],
        ),
    ],
)
def test_split_names_all_mistakes_at_once(text, said):
    with pytest.raises(ConversionError) as raised:
        split(make(), parse_split(text))
    assert all(part in str(raised.value) for part in said)


@pytest.mark.parametrize("text", ["state", "state=", "state=a", "state=a:x", "state=.a:3", "=a:3;"])
def test_parse_split_says_what_it_wants(text):
    with pytest.raises(ConversionError, match=r"as split=observation\.state=robot0_eef_pos:3"):
        parse_split(text)


def test_parse_split_names_all_mistakes_at_once():
    with pytest.raises(ConversionError, match="has 'a=1', ' b=x', expected"):
        parse_split("a=1;c=d:2; b=x")
