"""A policy for use elsewhere, in one folder: weights, ONNX files, contracts and a README."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from reconverge.errors import ReconvergeError
from reconverge.files import replacing, write_text
from reconverge.policy.deployment import onnx
from reconverge.policy.deployment.contract import Contract, make_contract, to_markdown
from reconverge.policy.runs.checkpoint import write_tensors
from reconverge.policy.runs.loading import LoadedPolicy, PolicySpec
from reconverge.policy.runs.provenance import commit
from reconverge.progress import progress_bar
from reconverge.seal import SealError, read_sealed, seal

SCHEMA = 2
CONFIG = "config.json"


@dataclass(frozen=True)
class Package:
    """An exported policy: one contract a task, and onnxruntime's session of its sampler.

    `sampler.run(None, {"observations": [B, To, Do], "task": [B], "noise": [B, Tp, Da]})` returns a
    list of one array: actions [B, Tp, Da]. Da is the contracts' `padded_action_size`, a task's own
    numbers are the first.
    """

    spec: PolicySpec
    contracts: tuple[Contract, ...]
    sampler: Any


def write_package(loaded: LoadedPolicy, target: Path) -> float:
    """Write the folder `target` with all tasks of a policy that was loaded onto the CPU.

    Returns the largest difference of its ONNX files to the policy, in action units.
    ReconvergeError if that is too much, if `target` exists, or if a package is not installed.
    """
    onnx.require_packages()
    if target.exists():
        raise ReconvergeError(f"output={target} is there already; name another folder or remove it")
    if loaded.spec.sight is not None:
        raise ReconvergeError(
            f"{loaded.path}: the policy sees pictures, which no ONNX file takes yet; serve it "
            "(reconverge serve), or export one with observations=state"
        )
    contracts = [make_contract(task, loaded.policy) for task in loaded.tasks]
    with replacing(target) as folder, progress_bar("export", "file", 3) as bar:
        folder.mkdir()
        onnx.export_denoiser(loaded.policy, folder / "denoiser.onnx")
        bar.update()
        onnx.export_sampler(loaded.policy, folder / "sampler.onnx")
        bar.update()
        write_tensors(loaded.policy.state_dict(), folder / "model.safetensors")
        bar.update()
        difference = onnx.check_export(loaded.policy, folder)
        about = {
            "policy": loaded.spec.to_json(),
            "tasks": [contract.to_json() for contract in contracts],
            "checkpoint": str(loaded.path),
            "commit": commit(),
            "largest_difference": difference,
        }
        write_text(
            folder / "README.md", readme(loaded.spec, contracts, loaded.policy.n_tasks, difference)
        )
        seal(folder, CONFIG, SCHEMA, about)
    return difference


def load_package(folder: Path | str, threads: int = 0) -> Package:
    """Load an exported policy to act on `threads` cores (0: all).

    ReconvergeError if a file is not as it was written.
    """
    onnx.require_packages(["onnxruntime"])
    folder = Path(folder)
    try:
        about = read_sealed(folder, CONFIG, SCHEMA)
    except SealError as error:
        raise ReconvergeError(
            f"{folder}: unusable package ({error}); export it again with python -m tools.export"
        ) from error
    spec = PolicySpec.from_json(about["policy"], folder / CONFIG)
    contracts = tuple(Contract.from_json(one, str(folder / CONFIG)) for one in about["tasks"])
    return Package(spec, contracts, onnx.open_session(folder / "sampler.onnx", threads))


def readme(spec: PolicySpec, contracts: list[Contract], rows: int, difference: float) -> str:
    """Return the README of a package, which says how to act with `sampler.onnx` alone."""
    size = spec.observation_size
    padded = any(sum(part.size for part in c.observation) < size for c in contracts)
    narrow = any(c.action_size < spec.action_size for c in contracts)
    embedded = spec.task_conditioning == "embedding"
    template = files("reconverge.policy.deployment") / "templates" / "README.md"
    return Template(template.read_text()).substitute(
        names=", ".join(contract.task for contract in contracts),
        to=spec.n_obs_steps,
        do=size,
        tp=spec.horizon,
        ta=spec.n_action_steps,
        da=spec.action_size,
        conditioning=""
        if embedded
        else "; it only selects the bounds that normalise the observations",
        padding=f", then zeros up to {size} entries" if padded else "",
        narrow="; a task's own numbers, as below, then zeros" if narrow else "",
        unused="; entries that a task's action lacks are zero in both" if narrow else "",
        prediction=spec.diffusion["prediction_type"],
        octaves=spec.fourier_octaves,
        one_hot=f"; then the task, one-hot of {rows}" if embedded else "",
        error=f"{difference:.1e}",
        batches=", ".join(map(str, onnx.BATCHES)),
        tasks="\n\n".join(map(to_markdown, contracts)),
    )
