"""The progress bar: lively on a terminal, few lines in a log file."""

import io
import sys

import pytest

from reconverge import progress
from reconverge.progress import progress_bar


class Stream(io.StringIO):
    """Standard error that is a terminal or a file."""

    def __init__(self, terminal):
        super().__init__()
        self.isatty = lambda: terminal


def states(stream):
    return [state for state in stream.getvalue().split("\r") if state.strip()]


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_bar_writes_its_beginning_and_end_into_a_file(monkeypatch, terminal):
    monkeypatch.setattr(progress, "ON_A_TERMINAL", 0.0)  # every step is shown
    monkeypatch.setattr(sys, "stderr", stream := Stream(terminal))
    with progress_bar("film", "frame", 50) as bar:
        for step in range(50):
            bar.update()
            bar.set_postfix(step=step, refresh=False)
    assert "film: 100%" in states(stream)[-1]
    assert "50/50" in states(stream)[-1]
    assert len(states(stream)) >= 50 if terminal else len(states(stream)) == 2


def test_progress_bar_over_an_iterable_and_from_what_is_done(monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream := Stream(False))
    assert list(progress_bar("seeds", "episode", over=range(3))) == [0, 1, 2]
    assert "3/3" in states(stream)[-1]
    with progress_bar("learning", "update", 10, done=4) as bar:
        bar.update(6)
    assert "learning:  40%" in states(stream)[2]
    assert "10/10" in states(stream)[-1]
