"""Replies to requests, whatever the bytes."""

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconverge.policy.deployment.contract import make_contract
from reconverge.policy.deployment.session import Latency, Session
from reconverge.policy.model.actor import PolicyActor
from support.tiny_checkpoint import make_checkpoint


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    source = make_checkpoint(tmp_path_factory.mktemp("checkpoints"))
    return Session(source.policy, make_contract(source.task("lift"), source.policy), Latency())


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.just("type"), inner)
    ),
    max_leaves=8,
)


@given(
    st.binary(max_size=64)
    | JSON.map(msgpack.packb)
    | JSON.map(lambda o: {"type": "act", "observation": o})
)
def test_answer_replies_to_anything(session, sent):
    body = sent if isinstance(sent, bytes) else msgpack.packb(sent)
    assert session.answer(body)["type"] in ("error", "ready", "statistics", "contract")


def test_answer_lets_a_bug_through(session, monkeypatch):
    """Only what the client can change is refused."""

    def fail(self, slot, seed):
        raise ValueError("a bug")

    monkeypatch.setattr(PolicyActor, "begin", fail)
    with pytest.raises(ValueError, match="a bug"):
        session.answer(msgpack.packb({"type": "reset", "seed": 0}))
    assert session.answer(msgpack.packb({"type": "reset", "seed": -1}))["type"] == "error"


def test_answer_gives_a_task_with_smaller_actions_its_own_numbers(tmp_path):
    mixed = make_checkpoint(tmp_path, tasks=("lift", "hammer"))
    contract = make_contract(mixed.task("hammer"), mixed.policy)
    session = Session(mixed.policy, contract, Latency())
    session.answer(msgpack.packb({"type": "reset", "seed": 0}))
    observation = {entry.key: entry.low for entry in contract.observation}
    reply = session.answer(msgpack.packb({"type": "act", "observation": observation}))
    assert np.shape(reply["actions"]) == (2, contract.action_size) == (2, 4)
