"""Files that are broken, and options that cannot be: one clear line each, and nothing left behind."""

from pathlib import Path

import pytest
from broken import CASES, STORE_CASES
from foreign import make_robomimic
from omegaconf import OmegaConf

from configs import commandline
from tools import convert

CONFIG = OmegaConf.load(Path(commandline.__file__).with_name("convert.yaml"))  # as hydra composes it, which is slow


@pytest.fixture
def refused(tmp_path):
    """Converts what must be refused; the one line that it says. Nothing is left beside what was there."""

    def convert_and_read(source, *arguments, target="out/made.zarr"):
        before = sorted(tmp_path.rglob("*"))
        stated = OmegaConf.from_dotlist([f"source={source}", f"target={tmp_path / target}", *arguments])
        with pytest.raises((ValueError, OSError)) as raised:  # as `commandline.run` reports them
            convert.run(OmegaConf.merge(CONFIG, stated))
        said = str(raised.value)
        assert "\n" not in said
        assert len(said) < 600
        assert ".partial" not in said
        assert [path for path in sorted(tmp_path.rglob("*")) if path not in before and path.name != "out"] == []
        return said

    return convert_and_read


@pytest.mark.parametrize("name", CASES)
def test_a_broken_file_gives_one_line_and_leaves_nothing(refused, tmp_path, name):
    make, said = CASES[name]
    target = "out/made.hdf5" if name in STORE_CASES else "out/made.zarr"
    assert said in refused(make(tmp_path), target=target)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["source="], "source= is missing"),
        (["target="], "target= is missing"),
        (["target=a.txt"], "a.txt: its format cannot be told"),
        (["target_format=zip"], "target_format=zip: choose from robomimic, store, diffusion_policy, lerobot"),
        (["source_format=hdf"], "source_format=hdf: choose from robomimic, store"),
        (["filter=test"], "filter=test is no filter key; choose from train, valid"),
        (["leave_out=[camera]"], "leave_out=camera is not there"),
        (["leave_out=[action]"], "action"),
        (["input_frame=tool"], "input_frame=tool: choose from world, base"),
        (["fps=0"], "fps=0: must be a whole number"),
        (["fps=fast"], "fps=fast: must be a whole number"),
    ],
)
def test_a_bad_option_gives_one_line(refused, tmp_path, arguments, said):
    path = make_robomimic(tmp_path / "good.hdf5")
    assert said in refused(path, *arguments)
