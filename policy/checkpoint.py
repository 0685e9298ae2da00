"""Checkpoints: folders of safetensors and JSON, written whole or not at all, and found again after a kill."""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

SCHEMA = 1
_NAME = re.compile(r"(\d+)_(?P<task>[^@]+)(@(?P<update>\d+))?")


class CheckpointError(ValueError):
    """A checkpoint that cannot be used: missing, damaged, or of another architecture."""


@dataclass(frozen=True)
class Checkpoint:
    """`weights`: the policy that acts; `state`: what training needs to continue; `manifest`: everything else."""

    weights: dict[str, Tensor]
    state: dict[str, Tensor]
    manifest: dict[str, Any]


def save(folder: Path, task: int, name: str, update: int | None, checkpoint: Checkpoint) -> Path:
    """Write `folder/<task>_<name>` (a learned task) or `..@<update>` (on the way); older ones on the way go.

    Raises OSError (a full disk, say) with nothing half-written under a checkpoint's name.
    """
    target = folder / (f"{task}_{name}" if update is None else f"{task}_{name}@{update}")
    temporary = folder / f".{uuid.uuid4().hex}.partial"
    temporary.mkdir(parents=True)
    try:
        write_tensors(checkpoint.weights, temporary / "model.safetensors")
        write_tensors(checkpoint.state, temporary / "state.safetensors")
        manifest = {"schema": SCHEMA, "task": task, "update": update, **checkpoint.manifest}
        (temporary / "manifest.json").write_text(json.dumps(manifest, indent=1))
        for file in temporary.iterdir():
            with open(file, "rb") as handle:
                os.fsync(handle.fileno())
        if target.exists():
            shutil.rmtree(target)
        temporary.rename(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    for old in folder.iterdir():
        if old != target and ("@" in old.name or old.name.endswith(".partial")):
            shutil.rmtree(old, ignore_errors=True)
    return target


def load(folder: Path | str) -> Checkpoint:
    """The checkpoint in `folder`; CheckpointError says what is missing or damaged."""
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such checkpoint; give a folder runs/<name>/checkpoints/<k>_<task>")
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        weights = load_file(folder / "model.safetensors")
        state = load_file(folder / "state.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{folder}: damaged or incomplete checkpoint ({error}); use another one") from error
    if manifest.get("schema") != SCHEMA:
        raise CheckpointError(f"{folder}: checkpoint schema {manifest.get('schema')}, this version reads {SCHEMA}")
    return Checkpoint(weights, state, manifest)


def newest(folder: Path | str) -> Path | None:
    """The checkpoint that is furthest on in `folder`, or None; a learned task is further than any of its updates."""
    found = []
    for path in Path(folder).glob("*"):
        match = _NAME.fullmatch(path.name)
        if match:
            update = match["update"]
            found.append((int(match[1]), float("inf") if update is None else int(update), path))
    return max(found)[2] if found else None


def write_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Write safetensors; OSError where the disk refuses."""
    try:
        save_file(_contiguous(tensors), path)
    except SafetensorError as error:  # what safetensors makes of the system's refusal
        raise OSError(f"{path.parent.parent}: no checkpoint can be written ({error}); free disk space") from error


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies that share no memory, as safetensors wants them."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
