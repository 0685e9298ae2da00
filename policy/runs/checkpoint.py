"""Checkpoints: folders of safetensors and JSON, written whole or not at all."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from reconverge.errors import ReconvergeError
from reconverge.files import partial_files, replacing

SCHEMA = 2
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

    All other checkpoints within a task are deleted. ReconvergeError (a full disk, say) leaves
    nothing half-written under a checkpoint's name.
    """
    target = folder / (f"{task}_{name}" if update is None else f"{task}_{name}@{update}")
    with replacing(target) as temporary:
        temporary.mkdir()
        write_tensors(checkpoint.weights, temporary / "model.safetensors")
        write_tensors(checkpoint.state, temporary / "state.safetensors")
        manifest = {"schema": SCHEMA, "task": task, "update": update, **checkpoint.manifest}
        (temporary / "manifest.json").write_text(json.dumps(manifest, indent=1))
        for file in temporary.iterdir():
            with open(file, "rb") as handle:
                os.fsync(handle.fileno())
    for old in {*partial_files(folder), *folder.glob("*@*")} - {target}:
        shutil.rmtree(old, ignore_errors=True)
    return target


def load(folder: Path | str) -> Checkpoint:
    """Read the checkpoint in `folder`; CheckpointError names what is missing or damaged."""
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(
            f"{folder}: no such checkpoint; give a folder runs/<name>/checkpoints/<k>_<task>"
        )
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        weights = load_file(folder / "model.safetensors")
        state = load_file(folder / "state.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder}: damaged or incomplete checkpoint ({error}); use another one"
        ) from error
    if manifest.get("schema") != SCHEMA:
        raise CheckpointError(
            f"{folder}: checkpoint schema {manifest.get('schema')}, this version reads {SCHEMA}"
        )
    return Checkpoint(weights, state, manifest)


def newest(folder: Path | str) -> Path | None:
    """Return the checkpoint in `folder` that has learned most, or None if it holds none."""
    found = []
    for path in Path(folder).glob("*"):
        match = _NAME.fullmatch(path.name)
        if match:
            update = match["update"]
            found.append((int(match[1]), float("inf") if update is None else int(update), path))
    return max(found)[2] if found else None


def write_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Write safetensors; OSError if the disk refuses."""
    try:
        save_file(_contiguous(tensors), path)
    except SafetensorError as error:  # it wraps the system's error
        raise OSError(str(error)) from error


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return copies that share no memory, as safetensors wants them."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
