"""A policy for use elsewhere, in one folder: weights, ONNX files, contracts and a README."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from string import Template

from tqdm import tqdm

from reconverge.errors import ReconvergeError
from reconverge.files import replacing, write_json, write_text
from reconverge.policy.deployment import onnx
from reconverge.policy.deployment.contract import Contract, make_contract, to_markdown
from reconverge.policy.runs.checkpoint import write_tensors
from reconverge.policy.runs.loading import LoadedPolicy, PolicySpec
from reconverge.policy.runs.provenance import commit


def write_package(loaded: LoadedPolicy, target: Path) -> float:
    """Write the folder `target` with all tasks of a policy that was loaded onto the CPU.

    Returns the largest difference of its ONNX files to the policy, in action units.
    ReconvergeError if that is too much, if `target` exists, or if a package is not installed.
    """
    onnx.require_packages()
    if target.exists():
        raise ReconvergeError(f"output={target} is there already; name another folder or remove it")
    contracts = [make_contract(task, loaded.policy) for task in loaded.tasks]
    with replacing(target) as folder, tqdm(total=3, desc="export", unit="file") as bar:
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
        write_json(folder / "config.json", about)
        write_text(
            folder / "README.md", readme(loaded.spec, contracts, loaded.policy.n_tasks, difference)
        )
    return difference


def readme(spec: PolicySpec, contracts: list[Contract], rows: int, difference: float) -> str:
    """Return the README of a package, which says how to act with `sampler.onnx` alone."""
    size = spec.observation_size
    padded = any(sum(part.size for part in c.observation) < size for c in contracts)
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
        prediction=spec.diffusion["prediction_type"],
        octaves=spec.fourier_octaves,
        one_hot=f"; then the task, one-hot of {rows}" if embedded else "",
        error=f"{difference:.1e}",
        batches=", ".join(map(str, onnx.BATCHES)),
        tasks="\n\n".join(map(to_markdown, contracts)),
    )
