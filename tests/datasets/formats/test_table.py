"""Every format is told from the paths that it has."""

from pathlib import Path

import pytest

from reconverge.datasets.formats.table import FORMATS, source_format, target_format
from reconverge.errors import ReconvergeError
from support.foreign import make_replay_buffer
from support.lerobot import make_foreign


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("a.hdf5", "robomimic"),
        ("a.h5", "robomimic"),
        ("a.zarr", "store"),
        ("a.zarr.zip", "diffusion_policy"),
        ("a_lerobot", "lerobot"),
    ],
)
def test_target_format_goes_by_the_suffix(file, name):
    assert target_format(Path(file)) == name


def test_source_format_looks_into_folders(tmp_path):
    make_replay_buffer(tmp_path / "v2.zarr")
    make_foreign(tmp_path / "so101")
    assert source_format(tmp_path / "v2.zarr") == "diffusion_policy"
    assert source_format(tmp_path / "so101") == "lerobot"
    assert source_format(tmp_path / "new.zarr") == "store"
    (tmp_path / "v2.zarr/.zgroup").unlink()  # which zarr v2 does not need
    assert source_format(tmp_path / "v2.zarr") == "diffusion_policy"


def test_source_format_and_target_format_list_the_choices(tmp_path):
    with pytest.raises(ReconvergeError, match=r"does not exist; .*robomimic, store, diff"):
        source_format(tmp_path / "none.txt")
    (tmp_path / "empty.zarr").mkdir()
    for path in (tmp_path, tmp_path / "empty.zarr"):
        with pytest.raises(ReconvergeError, match="its format cannot be told"):
            source_format(path)
    with pytest.raises(ReconvergeError, match=r"end it with .*no suffix \(lerobot\)"):
        target_format(tmp_path / "none.txt")


@pytest.mark.parametrize("name", FORMATS)
def test_source_format_agrees_with_target_format(name):
    for suffix in FORMATS[name].suffixes:
        path = Path(f"none{suffix}")
        assert target_format(path) == name
        assert not suffix or source_format(path) == name
