"""A policy for use elsewhere, in one folder: `python -m tools.export checkpoint=runs/<name> output=exported`."""

from __future__ import annotations

import shutil
import uuid
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from tqdm import tqdm

from configs import commandline
from envs.tasks import get_task
from policy import exporting
from policy.agent import DiffusionPolicy
from policy.checkpoint import write_tensors
from policy.files import write_json
from policy.loading import describe, find_checkpoint, load_policy, tasks_of
from policy.record import commit
from tools.contract import describe_task, task_contract

README = """# A policy of {names}

`sampler.onnx` is the whole policy, for onnxruntime alone: from observations in their own units to a chunk of actions.

```python
import numpy, onnxruntime

policy = onnxruntime.InferenceSession("sampler.onnx")
noise = numpy.random.standard_normal((1, {tp}, {da})).astype("float32")
(actions,) = policy.run(None, {{"observations": observations, "task": task, "noise": noise}})
```

| input or output | shape | type | |
|---|---|---|---|
| `observations` | [B, {to}, {do}] | float32 | the last {to} observations, oldest first, in their own units, as below |
| `task` | [B] | int64 | number of the task, as below{conditioning} |
| `noise` | [B, {tp}, {da}] | float32 | standard normal; the same numbers again give the same actions again |
| `actions` | [B, {tp}, {da}] | float32 | the next {tp} actions, in [-1, 1] |

- **Observation.** The keys of a task in the order of its table, one after another{padding}.
  Clip every entry to its bounds: the policy has never seen anything outside them.
- **History.** At the start of an episode all {to} observations are the first one. From then on every control
  step adds one and drops the oldest, between two calls as well.
- **Receding horizon.** Execute the first {ta} of the {tp} actions, one a control step, then call again.

`denoiser.onnx` is the network alone: from `sample` [B, {tp}, {da}] at diffusion `step` [B] (int64) and `condition`
[B, C] to `output` [B, {tp}, {da}], the {prediction} of the diffusion process in `config.json`. The condition is the
history, flattened, bounds mapped to [-1, 1] and padding to 0; then, for i below {octaves}, sin and cos of it times
pi 2^i{one_hot}.

`model.safetensors` holds weights and bounds, `config.json` all of this for programs. Both ONNX files differed from the
policy by at most {error:.1e} when they were written (onnxruntime, batches of {batches}).

{tasks}
"""


def main() -> None:
    commandline.run("export", run)


def run(config: DictConfig) -> None:
    """Write the folder, whole or not at all."""
    if config.checkpoint is None:
        raise ValueError("checkpoint= is missing; give runs/<name> or a folder in its checkpoints/")
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise ValueError(f"{', '.join(missing)} not installed: pip install 'reconverge[export]'")
    target = Path(config.output)
    if target.exists():
        raise ValueError(f"output={target} is there already; name another folder or remove it")
    checkpoint = find_checkpoint(config.checkpoint)
    policy, spec = load_policy(checkpoint)
    contracts = [
        task_contract(get_task(name), policy, spec.tasks.index(name), spec.input_frame(name))
        for name in tasks_of(checkpoint, spec)
    ]
    about = {"policy": describe(spec), "tasks": contracts, "checkpoint": str(checkpoint), "commit": commit()}
    error = export(policy, about, target)
    print(f"{target}: {', '.join(c['task'] for c in contracts)}; differs from the policy by at most {error:.1e}")


def export(policy: DiffusionPolicy, about: dict[str, Any], target: Path) -> float:
    """Write `target`; the largest difference of its ONNX files to the policy. ValueError where that is too much."""
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}.partial")
    partial.mkdir(parents=True)
    try:
        with tqdm(total=3, desc="export", unit="file") as bar:
            exporting.export_denoiser(policy, partial / "denoiser.onnx")
            bar.update()
            exporting.export_sampler(policy, partial / "sampler.onnx")
            bar.update()
            write_tensors(policy.state_dict(), partial / "model.safetensors")
            bar.update()
        error = exporting.check_export(policy, partial)
        write_json(partial / "config.json", {**about, "largest_difference": error})
        (partial / "README.md").write_text(readme(about, error))
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return error


def readme(about: dict[str, Any], error: float) -> str:
    """The observation and action contract in Markdown."""
    spec, contracts = about["policy"], about["tasks"]
    size = spec["observation_size"]
    padded = any(sum(part["size"] for part in contract["observation"]) < size for contract in contracts)
    told = spec["task_conditioning"] == "embedding"
    return README.format(
        names=", ".join(contract["task"] for contract in contracts),
        to=spec["observation_steps"], do=size, tp=spec["action_steps"], ta=spec["executed_steps"],
        da=spec["action_size"],
        conditioning="" if told else "; it only selects the bounds that normalise the observations",
        padding=f", then zeros up to {size} entries" if padded else "",
        prediction=spec["diffusion"]["prediction"],
        octaves=spec["fourier_octaves"],
        one_hot="; then the task, one-hot" if told else "",
        error=error,
        batches=", ".join(map(str, exporting.BATCHES)),
        tasks="\n\n".join(map(describe_task, contracts)),
    )  # fmt: skip


if __name__ == "__main__":
    main()
