"""Presets of a user's own: yaml files of experiments, and of groups of options."""

from pathlib import Path

import pytest

from reconverge.policy import train
from support.tiny_run import call

GLOBAL = "# @package _global_\n"


@pytest.fixture
def preset(tmp_path, monkeypatch):
    """Writes a preset below `conf/` of the working directory."""
    monkeypatch.chdir(tmp_path)

    def write(name, text):
        file = tmp_path / "conf" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    return write


@pytest.fixture
def composed(monkeypatch):
    """Returns the options that the run's function got, instead of runs."""
    found = []
    monkeypatch.setattr(train, "execute", lambda options, *_: found.append(options))

    def compose(*arguments):
        assert call(train.main, arguments, monkeypatch) == 0
        return found.pop()

    return compose


def test_paths_of_a_preset_are_expanded(preset, composed, monkeypatch):
    monkeypatch.setenv("DATA", "/data")
    for path, meant in (("~/demos", str(Path.home() / "demos")), ("$DATA/x", "/data/x")):
        preset("experiment/mine", f"{GLOBAL}demonstrations: {{path: {path}}}\n")
        options = composed("hydra.searchpath=[file://conf]", "experiment=mine")
        assert options.demonstrations.path == meant
