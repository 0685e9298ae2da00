"""What the command line says of pictures."""

import pytest

from reconverge.errors import ReconvergeError
from reconverge.tools import collect


def test_a_size_without_cameras_is_refused(tmp_path):
    options = collect.CollectOptions(env=["lift"], path=str(tmp_path / "d"), picture_size=32)
    with pytest.raises(ReconvergeError, match="picture_size=32: nothing is pictured without"):
        collect.run(options)
    assert not list(tmp_path.iterdir())
