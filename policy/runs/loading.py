"""Policies from descriptions, and from checkpoints: the weights, and the tasks they can act on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.modules.module import register_module_parameter_registration_hook

from reconverge.envs.catalog import get_task, task_sequence
from reconverge.envs.render.sight import Sight
from reconverge.envs.task import Task
from reconverge.errors import ReconvergeError, one_line, unknown
from reconverge.options import check_options, choose
from reconverge.policy.model.actor import ROWS, PolicyActor
from reconverge.policy.model.batch import widened
from reconverge.policy.model.diffusion import Diffusion, DiffusionOptions
from reconverge.policy.model.encoders import LEARNED, make_sight
from reconverge.policy.model.networks import NETWORKS
from reconverge.policy.model.normalizer import Normalizer
from reconverge.policy.model.policy import DiffusionPolicy, PolicyOptions
from reconverge.policy.runs.checkpoint import FILES, MANIFEST, CheckpointError, load, newest
from reconverge.schema import read_record

TASK_ROWS = 32
"""Tasks that a policy has room for, a multiple of it for more: no shape tells of tasks to come."""
SPARE_NUMBERS = 2**28
"""That a policy may have while it is built, beyond its weights: encoders drop layers."""
OF_ONE_TASK = ("single", "packnet")
"""Methods whose earlier tasks use other weights than those of a checkpoint, or a part of them."""
OF_ALL_TASKS = ("multitask",)
"""Methods that learn all tasks from the first update on."""


@dataclass(frozen=True)
class PolicySpec:
    """Everything that decides a policy's architecture; JSON in a checkpoint's manifest."""

    tasks: list[str]
    network: dict[str, Any]  # name and options
    diffusion: dict[str, Any]
    n_obs_steps: int
    horizon: int
    n_action_steps: int
    observation_size: int  # of the largest task of the suites; smaller ones are padded
    action_size: int  # likewise
    task_conditioning: str
    fourier_octaves: int
    input_frames: dict[str, str] = field(default_factory=dict)  # of tasks not acted on in "base"
    action_sizes: dict[str, int] = field(default_factory=dict)  # of tasks with smaller actions
    sight: dict[str, Any] | None = None  # of a policy that sees, from `seen_by`

    @property
    def learns_to_see(self) -> bool:
        """Whether the encoder is a part of the policy's network, and observations hold pixels."""
        return self.sight is not None and self.sight["encoder"]["name"] in LEARNED

    @property
    def pixels(self) -> int:
        """Numbers of the pictures that an observation ends with."""
        if self.sight is None or not self.learns_to_see:
            return 0
        return len(self.sight["cameras"]) * 3 * self.sight["picture_size"] ** 2

    def task(self, name: str) -> Task:
        """Return the task with its index in the sequence and the frame of the policy's actions."""
        frame = self.input_frames.get(name, "base")
        task = replace(get_task(name), index=self.tasks.index(name), input_frame=frame)
        return task if self.sight is None else _sight(self.sight).of(task)

    def continues(self, was: PolicySpec) -> bool:
        """Return whether a run of `was` may go on as this, with further tasks.

        ReconvergeError where there is no room for them.
        """
        tasks = len(was.tasks)
        if _rows(self) > _rows(was):
            raise ReconvergeError(
                f"env={','.join(self.tasks)}: {len(self.tasks)} tasks, and the policy of a run "
                f"that began with {tasks} has room for {_rows(was)}; begin a new run with all of "
                "them"
            )
        frames = {name: frame for name, frame in self.input_frames.items() if name in was.tasks}
        sizes = {name: size for name, size in self.action_sizes.items() if name in was.tasks}
        tasks_then = self.tasks[:tasks]
        return replace(self, tasks=tasks_then, input_frames=frames, action_sizes=sizes) == was

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any, file: Path) -> PolicySpec:
        """Read what `to_json` gave; CheckpointError names `file` and the field that is damaged."""
        spec = read_record(cls, value, f"{file}: policy", CheckpointError)
        if not isinstance(spec.network.get("name"), str):
            raise CheckpointError(f"{file}: policy: network: lacks 'name'; restore it")
        return spec


@dataclass(frozen=True)
class LoadedPolicy:
    """The policy of the checkpoint at `path`, ready to act.

    `tasks` are those that it can act on: its whole sequence, or with a method OF_ONE_TASK the one
    that it learned. Each has its `index` in the sequence and the `input_frame` of the policy's
    actions. Those of an index from `learned` on it was not taught yet.
    """

    path: Path
    policy: DiffusionPolicy
    spec: PolicySpec
    tasks: tuple[Task, ...]
    learned: int

    @property
    def title(self) -> str:
        """Return the run and its checkpoint, as in `cw10/3_push-back`."""
        path = self.path.absolute()
        return f"{path.parents[1].name}/{path.name}"

    def task(self, name: str) -> Task:
        """Return the task of that name; ReconvergeError lists those that there are."""
        for task in self.tasks:
            if task.label == name:
                return task
        raise unknown(f"task of {self.path}:", name, [task.label for task in self.tasks])

    def select(self, names: Sequence[str]) -> list[Task]:
        """Return the named tasks, aliases expanded, or all where `names` is empty."""
        found = task_sequence(names) if names else self.tasks
        return [self.task(task.label) for task in found]

    def actor(self, task: Task, rows: int = ROWS) -> PolicyActor:
        """Return what acts on one of the tasks in a rollout; `rows` as in PolicyActor.

        It is found by its label, so that one of `get_task` serves as well. ReconvergeError where
        the policy learned it with another frame of actions or with other observations.
        """
        own = self.task(task.label)
        same = task.input_frame == own.input_frame
        if not same or [*task.observations.items()] != [*own.observations.items()]:
            raise ReconvergeError(
                f"{task.label}: the policy learned it with another "
                f"{'observations=' if same else 'frame of actions'}; "
                f"give load_policy(...).task({task.label!r})"
            )
        return PolicyActor(self.policy, own.index, rows=rows)


def load_policy(path: Path | str | None, device: str = "cpu") -> LoadedPolicy:
    """Load a checkpoint folder, or the newest checkpoint of a run, onto `device`.

    CheckpointError where there is none, where it is damaged, and where a package is missing.
    """
    place = find_device(device)
    folder = find_checkpoint(path)
    checkpoint = load(folder)
    manifest, file = checkpoint.manifest, folder / MANIFEST
    if "policy" not in manifest and "pictures" in manifest:
        raise CheckpointError(
            f"{folder}: generates pictures and acts in no environment; its samples/ and "
            "report.html show what it generates"
        )
    spec = PolicySpec.from_json(manifest.get("policy"), file)
    try:
        check_options(choose("network", NETWORKS, spec.network))  # so many layers take memory, too
        with _no_larger(checkpoint.weights):
            policy = make_policy(spec, make_normalizer(spec, []).to(place))
        policy.load_state_dict(checkpoint.weights)
        tasks = tuple(spec.task(name) for name in spec.tasks)
    except (torch.OutOfMemoryError, torch.AcceleratorError):
        raise
    except ReconvergeError as error:  # a name that is unknown here, a package that is missing
        raise CheckpointError(f"{folder}: cannot be loaded here: {error}") from error
    except (TypeError, ValueError, RuntimeError, ArithmeticError, MemoryError) as error:
        raise CheckpointError(
            f"{folder}: the weights do not fit the architecture it describes ({one_line(error)})"
        ) from error
    facts = manifest.get("facts", {})
    if not isinstance(facts, dict):
        raise CheckpointError(f"{file}: facts: must be a map, got {facts!r:.80}; restore it")
    index = manifest.get("task")
    if type(index) is not int or not 0 <= index < len(tasks):
        raise CheckpointError(
            f"{file}: task: must be in 0..{len(tasks) - 1}, got {index!r}; restore it"
        )
    learned = len(tasks) if facts.get("method") in OF_ALL_TASKS else index + 1
    if facts.get("method") in OF_ONE_TASK:
        tasks = tasks[index : index + 1]
    return LoadedPolicy(folder, policy.eval(), spec, tasks, learned)


@contextmanager
def _no_larger(weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Raise ValueError where a policy is built that is far larger than its weights.

    A module registers a parameter before it is filled, and so before it takes memory. (The device
    "meta" would tell all shapes, but imports for a second.)
    """
    left = most = 2 * sum(held.numel() for held in weights.values()) + SPARE_NUMBERS

    def count(_module: object, _name: str, parameter: Tensor) -> None:
        nonlocal left
        left -= parameter.numel()
        if left < 0:
            raise ValueError(f"it has more than {most} numbers, far more than the weights")

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


def seen_by(options: dict[str, Any]) -> dict[str, Any]:
    """Return what a spec says of a policy's sight: `make_sight`'s options, and the fingerprint."""
    return options | {"fingerprint": make_sight(**options).fingerprint}


def _sight(recorded: dict[str, Any]) -> Sight:
    """Return a policy's sight; CheckpointError where its encoder has other weights by now."""
    options = {name: value for name, value in recorded.items() if name != "fingerprint"}
    sight = make_sight(**options)
    if sight.fingerprint != recorded["fingerprint"]:
        was, now = (each["encoder"] for each in (recorded["fingerprint"], sight.fingerprint))
        raise CheckpointError(
            f"the policy's encoder is {was}, here it is {now}; install the packages of its run"
        )
    return sight


def find_checkpoint(path: Path | str | None) -> Path:
    """Return `path` if it is a checkpoint, even a damaged one, else the newest one of a run."""
    if path is None:
        raise CheckpointError(
            "checkpoint= is missing; give runs/<name> or a folder in its checkpoints/"
        )
    path = Path(path)
    in_run = path.parent.name == "checkpoints" and path.exists()
    if in_run or any((path / name).exists() for name in FILES):
        return path
    found = newest(path / "checkpoints")
    if found is None:
        raise CheckpointError(
            f"{path}: no checkpoint here; give runs/<name> or runs/<name>/checkpoints/<k>_<task>"
        )
    return found


def make_policy(spec: PolicySpec, normalizer: Normalizer) -> DiffusionPolicy:
    """Build the policy of `spec` with fresh weights, on the device of `normalizer`."""
    device = normalizer.low.device
    policy = PolicyOptions.of(spec)
    network = choose("network", NETWORKS, spec.network)
    diffusion = Diffusion(DiffusionOptions(**spec.diffusion), device)
    mask = make_action_mask(spec)
    if spec.sight is None or not spec.learns_to_see:
        return DiffusionPolicy(policy, network, diffusion, normalizer, mask).to(device)
    encoder = choose("encoder", LEARNED, spec.sight["encoder"])
    size = spec.sight["picture_size"]
    eyes = [encoder.eye(size) for _ in spec.sight["cameras"]]
    return DiffusionPolicy(policy, network, diffusion, normalizer, mask, eyes, size).to(device)


def make_action_mask(spec: PolicySpec) -> Float[Tensor, "K Da"]:
    """Return 1 for the entries that a task's actions have, 0 for padding, one row a task."""
    mask = torch.ones(_rows(spec), spec.action_size)
    for name, size in spec.action_sizes.items():
        mask[spec.tasks.index(name), size:] = 0.0
    return mask


def make_normalizer(spec: PolicySpec, tasks: Sequence[Task]) -> Normalizer:
    """Build the normaliser of a policy, with the declared bounds of these tasks, its first ones."""
    normalizer = Normalizer(_rows(spec), spec.observation_size)
    for row, task in enumerate(tasks):
        low, high = (
            widened(bound, spec.observation_size, spec.pixels) for bound in (task.low, task.high)
        )
        normalizer.set_task(row, low, high)
    return normalizer


def _rows(spec: PolicySpec) -> int:
    """Return how many tasks the policy has room for."""
    return TASK_ROWS * -(-len(spec.tasks) // TASK_ROWS)


def find_device(name: str) -> torch.device:
    """Return the device `cpu` or `cuda`; with `auto` the GPU if torch finds one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise unknown("device", name, ("auto", "cpu", "cuda"))
    if name == "cuda" and not torch.cuda.is_available():
        raise ReconvergeError("device=cuda: torch finds no GPU; use device=cpu")
    device = torch.device(name)
    try:
        torch.zeros((), device=device)
    except RuntimeError as error:
        raise ReconvergeError(
            f"device={name}: the GPU cannot be used ({one_line(error)}); free it, or use device=cpu"
        ) from error
    return device
