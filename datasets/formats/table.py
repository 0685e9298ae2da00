"""All formats of demonstrations: how each is recognised, read and written."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from reconverge.datasets.formats.arrays import ConversionError
from reconverge.datasets.formats.demonstration_store import read_store, write_store
from reconverge.datasets.formats.diffusion_policy import read_diffusion_policy
from reconverge.datasets.formats.diffusion_policy_writer import write_diffusion_policy
from reconverge.datasets.formats.exchange import Demonstrations
from reconverge.datasets.formats.hdf5.contents import top_level
from reconverge.datasets.formats.hdf5.d4rl import read_d4rl
from reconverge.datasets.formats.hdf5.minari import EPISODE, MAIN_DATA, read_minari
from reconverge.datasets.formats.lerobot.reading import read_lerobot
from reconverge.datasets.formats.lerobot.writing import write_lerobot
from reconverge.datasets.formats.robomimic import read_robomimic
from reconverge.datasets.formats.robomimic_writer import write_robomimic
from reconverge.datasets.layout import ENDS, SCHEMA

# of the bytes of rendered pictures that are left when they are compressed, in videos, and as PNG
RENDERED, ENCODED, PNG = 0.2, 0.05, 0.3


@dataclass(frozen=True)
class Format:
    """Hold the reader and the writer of a format, and the paths that it has."""

    read: Callable[..., Demonstrations]  # (path, leave_out=...)
    recognises: Callable[[Path], bool]  # the file or folder of a source
    write: Callable[..., None] | None = None  # (demonstrations, path), if it can be written
    suffixes: tuple[str, ...] = ()  # of targets
    read_options: tuple[str, ...] = ()  # further arguments of `read`
    write_options: tuple[str, ...] = ()  # further arguments of `write`
    picture_share: float = 0.0  # of the bytes of pictures that a file has, about; 0: without


def _is_hdf5_of(name: str, path: Path) -> bool:
    """Tell whose HDF5 file is at a path, by what is at its top; robomimic's, if nothing tells."""
    if path.suffix not in (".hdf5", ".h5"):
        return False
    found = top_level(path)
    if any(group.startswith(EPISODE) for group in found):
        return name == "minari"
    return name == ("d4rl" if {"observations", "actions"} <= found else "robomimic")


def _is_store(path: Path) -> bool:
    """Tell a store, or the path of one to come, from replay buffers."""
    if not (path / "zarr.json").exists():
        return path.suffix == ".zarr" and not path.exists()
    try:
        attributes = json.loads((path / "zarr.json").read_text("utf-8"))["attributes"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return True
    return any(name in attributes for name in (*SCHEMA, "checksum"))


FORMATS = {
    "robomimic": Format(
        read=read_robomimic,
        recognises=lambda path: _is_hdf5_of("robomimic", path),
        write=write_robomimic,
        suffixes=(".hdf5", ".h5"),
        read_options=("filter_key", "pictures"),
        picture_share=1.0,
    ),
    "store": Format(
        read=read_store,
        recognises=_is_store,
        write=write_store,
        suffixes=(".zarr",),
        read_options=("pictures",),
        picture_share=RENDERED,
    ),
    "diffusion_policy": Format(
        read=read_diffusion_policy,
        recognises=lambda path: (
            path.suffix == ".zip"
            or any((path / name).exists() for name in (".zgroup", "zarr.json", ENDS))
        ),
        write=write_diffusion_policy,
        suffixes=(".zip",),
        read_options=("pictures",),
        picture_share=RENDERED,
    ),
    "lerobot": Format(
        read=read_lerobot,
        recognises=lambda path: (path / "meta").is_dir(),
        write=write_lerobot,
        suffixes=("",),
        read_options=("filter_key", "pictures", "picture_size"),
        write_options=("fps", "videos"),
        picture_share=ENCODED,
    ),
    "d4rl": Format(
        read=read_d4rl,
        recognises=lambda path: _is_hdf5_of("d4rl", path),
    ),
    "minari": Format(
        read=read_minari,
        recognises=lambda path: (
            _is_hdf5_of("minari", path) or any((path / place).is_file() for place in MAIN_DATA)
        ),
    ),
}


def source_format(path: Path) -> str:
    """Name the first format that recognises what is at a path."""
    for name, kind in FORMATS.items():
        if kind.recognises(path):
            return name
    what = "its format cannot be told" if path.exists() else "does not exist"
    raise ConversionError(
        f"source={path}: {what}; give another path, or source_format= one of {', '.join(FORMATS)}"
    )


def target_format(path: Path) -> str:
    """Name the format whose targets have the suffix of a path."""
    for name, kind in FORMATS.items():
        if path.suffix in kind.suffixes:
            return name
    legal = [
        f"{kind.suffixes[0] or 'no suffix'} ({name})"
        for name, kind in FORMATS.items()
        if kind.suffixes
    ]
    raise ConversionError(
        f"target={path}: its format cannot be told; end it with {', '.join(legal)}, or give "
        "target_format="
    )
