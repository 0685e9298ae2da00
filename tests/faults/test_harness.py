"""Damage of any kind is refused in one line, or changes nothing that is used."""

from collections import Counter

import pytest
from faults.harness import HARMLESS, REFUSED, SILENT, TRACEBACK, VERDICTS, Trials
from faults.subjects import SUBJECTS, Subject

from reconverge.errors import ReconvergeError

HELD = {
    "checkpoint": (40, 0.8),
    "package": (30, 0.8),
    "seen": (20, 0.5),
    "pictures": (20, 0.5),
    "filmed": (15, 0.5),
    "robomimic": (20, 0.3),
    "diffusion_policy": (20, 0.3),
}
"""Subjects of which no damage may be silent or a traceback: how many are tried, and the least share
of them that is refused, as some of what there is is not read."""


@pytest.mark.parametrize("name", HELD)
def test_no_damage_is_silent_or_a_traceback(tmp_path, name):
    trials = Trials(SUBJECTS[name], tmp_path)
    count, least = HELD[name]
    outcomes = [trials.run(seed) for seed in range(count)]
    wrong = [outcome for outcome in outcomes if outcome.verdict in (SILENT, TRACEBACK)]
    assert not wrong
    assert sum(outcome.verdict == REFUSED for outcome in outcomes) > least * count


def read_as(handle):
    """A reader that hands a file's bytes to `handle`."""
    return lambda path: handle((path / "a").read_bytes())


def refuse(content):
    if content != bytes(100):
        raise ReconvergeError("not as it was written")


@pytest.mark.parametrize(
    ("handle", "seen"),
    [
        (refuse, {REFUSED, HARMLESS, TRACEBACK}),  # it does not expect a file that is gone
        (lambda content: content, {SILENT, HARMLESS, TRACEBACK}),
        (lambda content: 1 / (content == bytes(100)), {HARMLESS, TRACEBACK}),
    ],
)
def test_trials_tell_the_verdicts_apart(tmp_path, handle, seen):
    def make(folder):
        (folder / "thing").mkdir()
        (folder / "thing" / "a").write_bytes(bytes(100))
        return folder / "thing"

    trials = Trials(Subject(make, read_as(handle)), tmp_path)
    outcomes = [trials.run(seed) for seed in range(60)]
    counts = Counter(outcome.verdict for outcome in outcomes)
    assert set(counts) == seen <= set(VERDICTS)
    for outcome in outcomes:
        if outcome.damage.startswith(("flip", "truncate", "grow")):
            assert outcome.verdict != HARMLESS
        if outcome.damage.startswith("add"):
            assert outcome.verdict == HARMLESS
    assert [trials.run(seed) for seed in range(60)] == outcomes
