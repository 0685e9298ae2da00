"""Where a result comes from: command, commit, versions, hardware."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).resolve()
PACKAGES = (
    "torch",
    "mujoco",
    "robosuite",
    "metaworld",
    "robomimic",
    "gymnasium",
    "zarr",
    "numpy",
    "numba",
    "reconverge",
)


def command() -> str:
    """Return the command line of this process as it was typed, quoted for a shell.

    A run that Python started has the one that makes it again.
    """
    program, *arguments = sys.argv
    if not program.startswith(("reconverge ", "python -m ")):
        program = "reconverge train"
    return " ".join([program, *map(shlex.quote, arguments)])


def versions() -> dict[str, str | None]:
    """Return the versions of the packages that decide a result, and the commit of this code."""
    return {**{name: version(name) for name in PACKAGES}, "commit": commit()}


def commit() -> str | None:
    """Return the git commit of this code, with "+" if files differ; None outside a checkout.

    A repository that surrounds this code without tracking it, as that of a project with a virtual
    environment, is another's.
    """
    try:
        _git("ls-files", "--error-unmatch", HERE.name)
        head = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "-uno")
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+" if changed else "")


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def hardware() -> dict[str, Any]:
    """Return the processor, its cores, the GPU and the threads of torch."""
    cpu = "unknown"
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            models = (line.split(":")[1].strip() for line in file if line.startswith("model name"))
            cpu = next(models, cpu)
    gpu = None
    with suppress(RuntimeError):  # a driver that finds a GPU and cannot use it
        gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    return {"cpu": cpu, "cores": os.cpu_count(), "gpu": gpu, "threads": torch.get_num_threads()}


def precision_told(device: torch.device, precision: str) -> str:
    """Return a precision with what a GPU rounds further, as torch does unless it is told."""
    backends: Any = torch.backends
    kinds = {"matrix products": backends.cuda.matmul, "convolutions": backends.cudnn.conv}
    rounded = [name for name, kind in kinds.items() if kind.fp32_precision == "tf32"]
    if (device.type, precision) != ("cuda", "float32") or not rounded:
        return precision
    return f"{precision}, {' and '.join(rounded)} in TF32"
