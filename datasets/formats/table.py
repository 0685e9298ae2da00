"""All formats of demonstrations: how each is recognised, read and written."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from reconverge.datasets.formats.arrays import ConversionError
from reconverge.datasets.formats.demonstration_store import read_store, write_store
from reconverge.datasets.formats.diffusion_policy import read_diffusion_policy
from reconverge.datasets.formats.diffusion_policy_writer import write_diffusion_policy
from reconverge.datasets.formats.exchange import Demonstrations
from reconverge.datasets.formats.lerobot.reading import read_lerobot
from reconverge.datasets.formats.lerobot.writing import write_lerobot
from reconverge.datasets.formats.robomimic import read_robomimic, write_robomimic


@dataclass(frozen=True)
class Format:
    """Hold the reader and the writer of a format, and the paths that it has."""

    read: Callable[..., AbstractContextManager[Demonstrations]]  # (path, leave_out=...)
    write: Callable[..., None]  # (demonstrations, path)
    recognises: Callable[[Path], bool]  # the file or folder of a source
    suffixes: tuple[str, ...]  # of targets
    read_options: tuple[str, ...] = ()  # further arguments of `read`
    write_options: tuple[str, ...] = ()  # further arguments of `write`


def _in_context(read: Callable[..., Demonstrations]) -> Callable[..., nullcontext[Demonstrations]]:
    """Let a reader that leaves nothing to clean up stand where a context manager does."""
    return lambda path, **options: nullcontext(read(path, **options))


FORMATS = {
    "robomimic": Format(
        read=_in_context(read_robomimic),
        write=write_robomimic,
        recognises=lambda path: path.suffix in (".hdf5", ".h5"),
        suffixes=(".hdf5", ".h5"),
        read_options=("filter_key",),
    ),
    "store": Format(
        read=_in_context(read_store),
        write=write_store,
        recognises=lambda path: (
            (path / "zarr.json").exists()
            or (path.suffix == ".zarr" and not (path / ".zgroup").exists())
        ),
        suffixes=(".zarr",),
    ),
    "diffusion_policy": Format(
        read=read_diffusion_policy,
        write=write_diffusion_policy,
        recognises=lambda path: path.suffix == ".zip" or (path / ".zgroup").exists(),
        suffixes=(".zip",),
    ),
    "lerobot": Format(
        read=_in_context(read_lerobot),
        write=write_lerobot,
        recognises=lambda path: (path / "meta").is_dir(),
        suffixes=("",),
        read_options=("filter_key",),
        write_options=("fps",),
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
    legal = [f"{kind.suffixes[0] or 'no suffix'} ({name})" for name, kind in FORMATS.items()]
    raise ConversionError(
        f"target={path}: its format cannot be told; end it with {', '.join(legal)}, or give "
        "target_format="
    )
