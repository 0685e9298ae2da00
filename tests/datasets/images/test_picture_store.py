"""Stores of pictures: read back as written, damage refused, made where they are missing."""

import json
import os
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from reconverge.datasets.images.picture_store import open_store
from reconverge.datasets.images.supplied import supply
from reconverge.errors import ReconvergeError
from support.picture_files import make_folders


@pytest.fixture
def brought(tmp_path):
    return make_folders(tmp_path / "shapes", count=12)


def test_a_store_is_made_once_and_read_back(tmp_path, brought):
    made = supply(str(brought), 16, tmp_path / "pictures")
    assert made.path == tmp_path / "pictures" / "shapes_16.zarr"
    read = supply(str(brought), 16, tmp_path / "pictures")
    assert (read.identity, read.source) == (made.identity, made.source)
    assert (read.pictures.train.pictures == made.pictures.train.pictures).all()
    assert (read.pictures.test.labels == made.pictures.test.labels).all()


def add(folder):
    copy = (folder / "bars/000.png").read_bytes()
    (folder / "bars/more.png").write_bytes(copy)


def edit(folder):
    file = folder / "dots/003.png"
    before = file.stat()
    pixels = np.asarray(Image.open(file)).copy()
    Image.fromarray(255 - pixels).save(file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1))


def lose(folder):
    (folder / "rays/000.png").unlink()


@pytest.mark.parametrize("change", [add, edit, lose])
def test_a_folder_that_has_changed_is_told_and_costs_no_store(tmp_path, brought, change):
    made = supply(str(brought), 16, tmp_path / "pictures")
    change(brought)
    with pytest.raises(ReconvergeError, match=r"has changed since .*shapes_16\.zarr was made"):
        supply(str(brought), 16, tmp_path / "pictures")
    assert supply(str(brought), 16, tmp_path / "anew").identity != made.identity
    kept = supply(str(brought), 16, tmp_path / "pictures", made.identity)
    assert (kept.identity, kept.made_from) == (made.identity, made.made_from)


def test_a_store_that_a_run_began_with_needs_no_folder(tmp_path, brought):
    made = supply(str(brought), 16, tmp_path / "pictures")
    shutil.rmtree(brought)
    assert supply(str(brought), 16, tmp_path / "pictures", made.identity).identity == made.identity
    with pytest.raises(ReconvergeError, match="unknown data"):
        supply(str(brought), 16, tmp_path / "pictures")


def test_a_store_of_other_pictures_is_not_taken(tmp_path, brought):
    supply(str(brought), 16, tmp_path / "pictures")
    other = make_folders(tmp_path / "other" / "shapes", count=6)
    with pytest.raises(ReconvergeError, match=r"holds the pictures of .*choose another"):
        supply(str(other), 16, tmp_path / "pictures")


def edit_class(path):
    file = path / "zarr.json"
    record = json.loads(file.read_text())
    record["attributes"]["classes"][0] = "cats"
    file.write_text(json.dumps(record))


def edit_source(path):
    file = path / "zarr.json"
    record = json.loads(file.read_text())
    record["attributes"]["source"] = "elsewhere"
    file.write_text(json.dumps(record))


def put_null_for_metadata(path):
    (path / "zarr.json").write_text("null")


def cut_chunk(path):
    chunk = next(p for p in (path / "train/pictures/c").rglob("*") if p.is_file())
    chunk.write_bytes(chunk.read_bytes()[:-9])


def put_a_group_for_an_array(path):
    (path / "test/labels/zarr.json").write_bytes((path / "test/zarr.json").read_bytes())


@pytest.mark.parametrize(
    "damage",
    [edit_class, edit_source, put_null_for_metadata, cut_chunk, put_a_group_for_an_array],
)
def test_damage_is_refused_in_one_line(tmp_path, brought, damage):
    path = supply(str(brought), 16, tmp_path).path
    damage(path)
    with pytest.raises(ReconvergeError, match="delete it, and it is made again") as refused:
        open_store(path)
    assert "\n" not in str(refused.value)


def test_a_store_of_another_version_is_no_damaged_one(tmp_path, brought):
    path = supply(str(brought), 16, tmp_path).path
    text = (path / "zarr.json").read_text()
    (path / "zarr.json").write_text(text.replace("pictures/2", "pictures/1"))
    with pytest.raises(ReconvergeError, match="no store of pictures of this version"):
        open_store(path)


def test_an_unknown_name_lists_the_data_sets(tmp_path):
    with pytest.raises(ReconvergeError, match="fashion_mnist"):
        supply("fashion_mnits", 16, tmp_path)


def test_a_test_set_without_a_class_is_refused_and_nothing_is_left(tmp_path):
    folder = make_folders(tmp_path / "few", parts=("train", "test"), count=2)
    for path in (folder / "test" / "dots").iterdir():
        path.unlink()
    with pytest.raises(ReconvergeError, match="test has no picture of class 'dots'"):
        supply(str(folder), 16, tmp_path)
    assert not list(tmp_path.glob("*.zarr"))


class FakeDigits:
    """What torchvision's MNIST has: `data` [N, H, W] and `targets`."""

    def __init__(self, root, train, download):
        import torch

        n = 20 if train else 10
        self.data = torch.arange(n, dtype=torch.uint8)[:, None, None].expand(n, 28, 28)
        self.targets = torch.arange(n) % 10


def test_torchvision_reads_what_it_has_downloaded(tmp_path, monkeypatch):
    module = type(sys)("torchvision.datasets")
    module.MNIST = FakeDigits
    monkeypatch.setitem(sys.modules, "torchvision.datasets", module)
    found = supply("mnist", 32, tmp_path).pictures
    assert found.classes == [str(digit) for digit in range(10)]
    assert found.train.pictures.shape == (20, 1, 32, 32)
    assert (found.train.pictures[:, 0, 16, 16] == np.arange(20)).all()


def test_a_download_that_fails_is_one_line(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("Error downloading\ntrain-images")

    module = type(sys)("torchvision.datasets")
    module.CIFAR10 = fail
    monkeypatch.setitem(sys.modules, "torchvision.datasets", module)
    with pytest.raises(ReconvergeError, match="data=cifar10: torchvision cannot") as refused:
        supply("cifar10", 32, tmp_path)
    assert "\n" not in str(refused.value)
