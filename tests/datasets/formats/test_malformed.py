"""Broken files and impossible options: one clear line each, and nothing left behind."""

import zipfile

import h5py
import pytest
from omegaconf import OmegaConf

from reconverge.configs.store import writable
from reconverge.datasets.sums import ATTACHED
from reconverge.errors import ReconvergeError
from reconverge.options import check_options
from reconverge.tools import convert
from support.broken import CASES, STORE_CASES
from support.foreign import make_robomimic
from support.lerobot import make_foreign

NESTED = "[" * 20_000
DEFAULTS = writable(OmegaConf.structured(convert.ConvertOptions))  # hydra's compose is slow


def run(options):
    """What the command line does with them."""
    check_options(options)
    convert.run(options)


@pytest.fixture
def refused(tmp_path):
    """Convert what must be refused, compare the folder before and after, return the one line."""

    def convert_and_read(source, *arguments, target="out/made.zarr"):
        before = sorted(tmp_path.rglob("*"))
        stated = OmegaConf.from_dotlist(
            [f"source={source}", f"target={tmp_path / target}", *arguments]
        )
        given = {name: "" if value is None else value for name, value in stated.items()}
        options = OmegaConf.to_object(OmegaConf.merge(DEFAULTS, given))
        with pytest.raises(ReconvergeError) as raised:
            run(options)
        said = str(raised.value)
        assert "\n" not in said
        assert len(said) < 600
        assert ".partial" not in said
        assert [
            path
            for path in sorted(tmp_path.rglob("*"))
            if path not in before and path.name != "out"
        ] == []
        return said

    return convert_and_read


@pytest.mark.parametrize("name", CASES)
def test_convert_of_a_broken_file_says_one_line_and_leaves_nothing(refused, tmp_path, name):
    make, said = CASES[name]
    target = "out/made.hdf5" if name in STORE_CASES else "out/made.zarr"
    assert said in refused(make(tmp_path), target=target)


def with_attribute(path, place, name):
    with h5py.File(make_robomimic(path), "r+") as file:
        file[place].attrs[name] = NESTED
    return path


def with_file(path, name):
    make_foreign(path)
    (path / name).write_text(NESTED)
    return path


def with_episode_attributes(path):
    make_foreign(path)
    with zipfile.ZipFile(path / "meta" / ATTACHED, "w") as file:
        file.writestr("0.json", NESTED)
    return path


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda f: with_file(f / "a", "meta/info.json"), "meta/info.json is truncated or edited"),
        (lambda f: with_file(f / "a", "meta/episodes.jsonl"), "episodes.jsonl is truncated or ed"),
        (lambda f: with_episode_attributes(f / "a"), "truncated or edited"),
        (lambda f: with_attribute(f / "a.hdf5", "data", "env_args"), "env_args is not JSON"),
        (lambda f: with_attribute(f / "a.hdf5", "data", "reconverge"), "reconverge was edited"),
        (lambda f: with_attribute(f / "a.hdf5", "data/demo_0", "scalars"), "was edited"),
    ],
    ids=range(6),
)
def test_convert_of_json_nested_without_end_says_one_line(refused, tmp_path, make, said):
    assert said in refused(make(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["source="], "source= is missing"),
        (["target="], "target= is missing"),
        (
            ["target=a.txt"],
            "a.txt: its format cannot be told; end it with .hdf5 (robomimic), .zarr",
        ),
        (
            ["target_format=zip"],
            "'zip': choose one of robomimic, store, diffusion_policy, lerobot",
        ),
        (["source_format=hdf"], "unknown source_format 'hdf': choose one of robomimic, store"),
        (["filter=test"], "good.hdf5 'test': choose one of train, valid"),
        (["leave_out=[camera]"], "good.hdf5 'camera': choose one of dones"),
        (["leave_out=[action]"], "action"),
        (["input_frame=tool"], "unknown input_frame 'tool': choose one of world, base"),
        (["fps=0"], "fps=0: must be at least 1"),
    ],
)
def test_convert_with_a_bad_option_says_one_line(refused, tmp_path, arguments, said):
    path = make_robomimic(tmp_path / "good.hdf5")
    assert said in refused(path, *arguments)
