"""What is made once of a store of pictures, and kept beside it as `<store>.<kind>`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from reconverge.datasets.images.picture_store import PictureStore
from reconverge.errors import ReconvergeError
from reconverge.files import alone, replacing
from reconverge.policy.runs.checkpoint import write_tensors
from reconverge.seal import SealError, read_sealed, seal

SCHEMA = 1

Made = tuple[dict[str, Tensor], dict[str, Any]]
"""tensors, and what there is to know about them"""


def kept_beside(store: PictureStore, kind: str, file: str, make: Callable[[], Made]) -> Made:
    """Return what `make` returns, made where it is missing or was made of other pictures."""
    folder = store.path.with_suffix(f".{kind}")
    with alone(folder):
        if not folder.exists() or _about(folder, kind)["identity"] != store.identity:
            tensors, about = make()
            with replacing(folder) as temporary:
                temporary.mkdir()
                write_tensors(tensors, temporary / file)
                seal(temporary, f"{kind}.json", SCHEMA, {"identity": store.identity, **about})
    return load_file(folder / file), _about(folder, kind)


def _about(folder: Path, kind: str) -> dict[str, Any]:
    try:
        return read_sealed(folder, f"{kind}.json", SCHEMA)
    except SealError as error:
        raise ReconvergeError(
            f"{folder}: {error}; delete the folder, and it is made again"
        ) from error
