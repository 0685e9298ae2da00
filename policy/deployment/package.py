"""A policy for use elsewhere, in one folder: weights, ONNX, contracts, a README, `robot.py`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from reconverge.errors import ReconvergeError
from reconverge.files import check_free, creating, write_text
from reconverge.policy.deployment import onnx
from reconverge.policy.deployment.contract import Contract, make_contract, to_markdown
from reconverge.policy.deployment.vision import export_encoder
from reconverge.policy.runs.checkpoint import write_tensors
from reconverge.policy.runs.loading import LoadedPolicy, PolicySpec
from reconverge.policy.runs.provenance import commit
from reconverge.progress import progress_bar
from reconverge.seal import SealError, read_sealed, seal

SCHEMA = 2
CONFIG, ROBOT, ENCODER = "config.json", "robot.py", "encoder.onnx"
HERE = files("reconverge.policy.deployment")
ENCODING = (
    "- **Pictures.** `encoder.onnx` makes of `pictures`, uint8 [B, {height}, {width}, 3], their "
    "`features`, float32 [B, {features}].\n"
)
# What a README says where a policy has a frozen encoder (False), and where it learned to see.
SEEN = {
    False: ", of pictures their features",
    True: ", of pictures the pixels, row by row: red, green and blue, 0 to 255",
}
PADDING = {
    False: ", then zeros up to {} entries",
    True: "; zeros before the pixels, up to {} entries with them",
}
PIXELS = "; then the pixels, mapped to [-1, 1]: [To, camera, row, column, red green blue]"


@dataclass(frozen=True)
class Package:
    """An exported policy: one contract a task, and onnxruntime's sessions of its ONNX files.

    `sampler.run(None, {"observations": [B, To, Do], "task": [B], "noise": [B, Tp, Da]})` returns a
    list of one array: actions [B, Tp, Da]. Da is the contracts' `padded_action_size`, a task's own
    numbers are the first. Of a policy with a frozen encoder,
    `encoder.run(None, {"pictures": [B, H, W, 3]})` returns the features [B, F] that come after the
    other numbers of an observation, a camera at a time in the order of the contract's `pictures`.
    """

    spec: PolicySpec
    contracts: tuple[Contract, ...]
    sampler: Any
    encoder: Any = None


def write_package(loaded: LoadedPolicy, target: Path) -> float:
    """Write the folder `target` with all tasks of a policy that was loaded onto the CPU.

    Returns the largest difference of its ONNX files to the policy: of actions and of features, both
    in [-1, 1]. ReconvergeError if that is too much, if `target` exists, for an encoder that ONNX
    cannot hold, or if a package is not installed.
    """
    onnx.require_packages()
    check_free(target)
    contracts = [make_contract(task, loaded.policy) for task in loaded.tasks]
    sight = loaded.tasks[0].sight
    frozen = sight is not None and sight.encoder is not None
    with creating(target) as folder, progress_bar("export", "file", 3 + frozen) as bar:
        folder.mkdir()
        difference = 0.0
        if frozen:
            difference = export_encoder(sight, folder / ENCODER)
            bar.update()
        onnx.export_denoiser(loaded.policy, folder / "denoiser.onnx")
        bar.update()
        onnx.export_sampler(loaded.policy, folder / "sampler.onnx")
        bar.update()
        write_tensors(loaded.policy.state_dict(), folder / "model.safetensors")
        bar.update()
        difference = max(difference, onnx.check_export(loaded.policy, folder))
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
        write_text(folder / ROBOT, (HERE / ROBOT).read_text("utf-8"))
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
    sampler = onnx.open_session(folder / "sampler.onnx", threads)
    if ENCODER not in about["files"]:
        return Package(spec, contracts, sampler)
    return Package(spec, contracts, sampler, onnx.open_session(folder / ENCODER, threads))


def readme(spec: PolicySpec, contracts: list[Contract], rows: int, difference: float) -> str:
    """Return the README of a package, which says how to act with its ONNX files alone."""
    size, pictures = spec.observation_size, contracts[0].pictures
    padded = any(c.own_observation_size < size for c in contracts)
    raw = contracts[0].ends_with_pixels
    narrow = any(c.action_size < spec.action_size for c in contracts)
    embedded = spec.task_conditioning == "embedding"
    template = HERE / "templates" / "README.md"
    return Template(template.read_text("utf-8")).substitute(
        names=", ".join(contract.task for contract in contracts),
        first=contracts[0].task,
        shown=" or to a picture, uint8 [H, W, 3]" if pictures else "",
        but_encoder=" but its encoder" if pictures and not raw else "",
        seen=SEEN[raw] if pictures else "",
        encoder=ENCODING.format(**asdict(pictures[0])) if pictures and not raw else "",
        pixels=PIXELS if raw else "",
        told=" without pixels" if raw else "",
        to=spec.n_obs_steps,
        do=size,
        tp=spec.horizon,
        ta=spec.n_action_steps,
        da=spec.action_size,
        conditioning=""
        if embedded
        else "; it only selects the bounds that normalise the observations",
        padding=PADDING[raw].format(size) if padded else "",
        narrow="; a task's own numbers, as below, then zeros" if narrow else "",
        unused="; entries that a task's action lacks are zero in both" if narrow else "",
        prediction=spec.diffusion["prediction_type"],
        octaves=spec.fourier_octaves,
        one_hot=f"; then the task, one-hot of {rows}" if embedded else "",
        error=f"{difference:.1e}",
        batches=", ".join(map(str, onnx.BATCHES)),
        tasks="\n\n".join(map(to_markdown, contracts)),
    )
