"""Debian's Fashion-MNIST, where it is installed, and IDX files."""

import gzip

import numpy as np
import pytest

from reconverge.datasets.images import fashion_mnist
from reconverge.datasets.images.fashion_mnist import CLASSES, read_fashion_mnist, read_idx
from reconverge.errors import ReconvergeError


def write_idx(path, values):
    head = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes()
    path.write_bytes(gzip.compress(head + values.tobytes()))


def test_idx_files_are_read_in_their_shape(tmp_path):
    values = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    write_idx(tmp_path / "a.gz", values)
    assert (read_idx(tmp_path / "a.gz") == values).all()


WHOLE = gzip.compress(b"\0\0\x08\1\0\0\4\0" + np.random.default_rng(0).bytes(1024))
DAMAGED = WHOLE[:12] + bytes([WHOLE[12] ^ 255]) + WHOLE[13:]  # in the compressed bytes


@pytest.mark.parametrize(
    "content",
    [b"", b"no gzip", gzip.compress(b"\0\0\x09\1\0\0\0\1a"), DAMAGED],
    ids=["empty", "no gzip", "another type", "damaged"],
)
def test_a_bad_idx_file_is_one_line(tmp_path, content):
    (tmp_path / "a.gz").write_bytes(content)
    with pytest.raises(ReconvergeError, match="unreadable IDX file") as refused:
        read_idx(tmp_path / "a.gz")
    assert "\n" not in str(refused.value)


def test_one_line_names_the_package_where_it_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(fashion_mnist, "FOLDER", tmp_path)
    with pytest.raises(ReconvergeError, match="apt-get install dataset-fashion-mnist"):
        read_fashion_mnist()


def test_the_data_set_is_what_its_authors_describe():
    """70,000 pictures, as many of each of ten classes; mean and deviation as commonly quoted."""
    try:
        found = read_fashion_mnist()
    except ReconvergeError as missing:
        pytest.skip(str(missing))
    assert found.classes == CLASSES
    assert found.train.pictures.shape == (60_000, 1, 28, 28)
    assert np.bincount(found.train.labels).tolist() == [6000] * 10
    assert np.bincount(found.test.labels).tolist() == [1000] * 10
    share = found.train.pictures / np.float32(255)
    assert share.mean() == pytest.approx(0.2860, abs=1e-4)
    assert share.std() == pytest.approx(0.3530, abs=1e-4)
