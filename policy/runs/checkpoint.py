"""Checkpoints: folders of safetensors and JSON, written whole or not at all."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from reconverge.errors import ReconvergeError
from reconverge.files import partial_files, replacing
from reconverge.seal import OtherSchemaError, SealError, read_sealed, seal

SCHEMA = 3
MANIFEST = "manifest.json"
FILES = ("model.safetensors", "state.safetensors", MANIFEST)
_NAME = re.compile(r"(\d+)_(?P<task>[^@]+)(@(?P<update>\d+))?")


class CheckpointError(ReconvergeError):
    """A checkpoint that cannot be used: missing, damaged, or of another architecture."""


@dataclass(frozen=True)
class Checkpoint:
    """The weights of the policy, the state from which training continues, and everything else."""

    weights: dict[str, Tensor]
    state: dict[str, Tensor]
    manifest: dict[str, Any]


def save(folder: Path, task: int, name: str, update: int | None, checkpoint: Checkpoint) -> Path:
    """Write `folder/<task>_<name>` of a learned task, or `<task>_<name>@<update>` within a task.

    Its manifest holds the digests of all its files. All other checkpoints within a task are
    deleted. ReconvergeError (a full disk, say) leaves nothing half-written under a checkpoint's
    name.
    """
    target = folder / (f"{task}_{name}" if update is None else f"{task}_{name}@{update}")
    with replacing(target) as temporary:
        temporary.mkdir()
        write_tensors(checkpoint.weights, temporary / "model.safetensors")
        write_tensors(checkpoint.state, temporary / "state.safetensors")
        about = {"name": target.name, "task": task, "update": update, **checkpoint.manifest}
        seal(temporary, MANIFEST, SCHEMA, about)
        for file in temporary.iterdir():
            with open(file, "rb") as handle:
                os.fsync(handle.fileno())
    for old in {*partial_files(folder), *folder.glob("*@*")} - {target}:
        shutil.rmtree(old, ignore_errors=True)
    return target


def load(folder: Path | str) -> Checkpoint:
    """Read the checkpoint in `folder`, all of whose files are as they were written.

    CheckpointError names what is missing, damaged or of another checkpoint, and the checkpoint
    before it in its run that is whole.
    """
    folder = Path(folder)
    if not folder.exists():
        raise CheckpointError(
            f"{folder}: no such checkpoint; give a folder runs/<name>/checkpoints/<k>_<task>"
        )
    try:
        manifest = _check(folder)
        weights = load_file(folder / "model.safetensors")
        state = load_file(folder / "state.safetensors")
    except (OSError, SealError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder}: unusable checkpoint ({error}); {_remedy(folder, error)}"
        ) from error
    return Checkpoint(weights, state, manifest)


def newest(folder: Path | str) -> Path | None:
    """Return the checkpoint in `folder` that has learned most, or None if it holds none."""
    found = _in_order(Path(folder).glob("*"))
    return found[-1] if found else None


def write_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Write safetensors; OSError if the disk refuses."""
    # copies, which share no memory, as safetensors wants them
    copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    try:
        save_file(copies, path)
    except SafetensorError as error:  # it wraps the system's error
        raise OSError(str(error)) from error


def _check(folder: Path) -> dict[str, Any]:
    """Return the manifest; SealError where a file is damaged, or the folder has another's name."""
    manifest = read_sealed(folder, MANIFEST, SCHEMA)
    name, found = folder.resolve().name, manifest.get("name")
    if _NAME.fullmatch(name) and name != found:
        raise SealError(f"it is {found}, as its {MANIFEST} says")
    return manifest


def _in_order(paths: Iterable[Path]) -> list[Path]:
    """Return the paths that have a checkpoint's name, the one that has learned most last.

    Beside the checkpoint of a learned task there is one within it while the task is learned on.
    """
    found = []
    for path in paths:
        match = _NAME.fullmatch(path.name)
        if match:
            found.append((int(match[1]), int(match["update"] or 0), path))
    return [path for *_, path in sorted(found)]


def _remedy(folder: Path, error: Exception) -> str:
    """Say what else to use: the last whole checkpoint before it, if there is one."""
    if isinstance(error, OtherSchemaError):
        return "use the version of reconverge that wrote it, or learn again"
    run = _in_order(folder.parent.glob("*"))
    place = run.index(folder) if folder in run else 0
    whole = next((path for path in reversed(run[:place]) if _is_whole(path)), None)
    other = shlex.quote(f"checkpoint={whole}") if whole else "another one"
    start = whole.name if whole else "the start"
    use = f"restore it, or use {other}"
    return use + (f"; delete it to resume from {start}" if run[-1:] == [folder] else "")


def _is_whole(folder: Path) -> bool:
    try:
        _check(folder)
    except SealError:
        return False
    return True
