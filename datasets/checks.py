"""Quality of a store before training: ranges, lengths, duplicates, missing frames, successes."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from reconverge.datasets.store import DemonstrationStore

SHOWN = 6  # of a list
PICTURES_AT_A_TIME = 64
MAX_DIMENSIONS = 32  # arrays of more numbers a step are described as a whole
SATURATED_SHARE = 0.5  # of steps at a bound, from which on a dimension is called saturated
# times the change of its neighbours, and of nine steps in ten, from which on a step has lost frames
JUMP_RATIO = 5.0
FEW_VALUES = 5  # of a dimension: a flag or a phase, which jumps as it should
JUMP_SHARE = 0.02  # of episodes with jumps, from which on frames are lost: contact makes some, too
SHORTEST, LONGEST = 0.2, 5.0  # episode lengths, in medians
ACTION_TOLERANCE = 1e-6  # by which rounding may take an action beyond [-1, 1]
BOUND_TOLERANCE = 1e-5  # by which single precision may exceed a bound

Bounds = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Finding:
    """Say what one check found; a store with a `wrong` one should be repaired before use."""

    check: str
    wrong: bool
    text: str


@dataclass(frozen=True)
class Dimension:
    """Describe one number a step (or all of a wide array) over all episodes."""

    name: str
    least: float
    most: float
    mean: float
    bounds: tuple[float, float] | None
    outside: int  # steps beyond the bounds
    at_bound: float  # share of steps at one of the bounds

    @property
    def constant(self) -> bool:
        return self.least == self.most

    @property
    def saturated(self) -> bool:
        return not self.constant and self.at_bound >= SATURATED_SHARE


def dimensions(store: DemonstrationStore, bounds: Mapping[str, Bounds]) -> list[Dimension]:
    """Describe every number of observations and action, with its `bounds` [size] if any."""
    found = []
    for key, rows in store.read([*store.observation_sizes, "action"]).items():
        flat = rows.reshape(len(rows), -1)
        low, high = bounds.get(key, (None, None))
        if flat.shape[1] > MAX_DIMENSIONS:
            found.append(_dimension(f"{key}[0..{flat.shape[1] - 1}]", flat, None))
            continue
        for i, column in enumerate(flat.T):
            declared = None if low is None or high is None else (float(low[i]), float(high[i]))
            found.append(_dimension(f"{key}[{i}]", column.astype(np.float64), declared))
    return found


def _dimension(name: str, values: np.ndarray, bounds: tuple[float, float] | None) -> Dimension:
    least, most = float(values.min()), float(values.max())
    outside, at_bound = 0, 0.0
    if bounds is not None:
        low, high = bounds
        outside = int(((values < low - BOUND_TOLERANCE) | (values > high + BOUND_TOLERANCE)).sum())
        at_bound = float(((values <= low) | (values >= high)).mean())
    return Dimension(
        name, least, most, float(values.mean(dtype=np.float64)), bounds, outside, at_bound
    )


def findings(
    store: DemonstrationStore,
    described: list[Dimension],
    timestamps: Float[np.ndarray, " T"] | None,
) -> list[Finding]:
    """Run all checks on a store with at least one episode, `described` by `dimensions`."""
    lengths = np.diff(store.episode_ends, prepend=0)
    return [
        Finding("episodes", False, f"{len(store)} of {store.n_steps} steps"),
        check_lengths(lengths),
        _listed("out of range", True, "beyond declared bounds", described, lambda d: d.outside > 0),
        _listed(
            "saturated",
            False,
            f"at a bound in {SATURATED_SHARE:.0%}+ of steps",
            described,
            lambda d: d.saturated,
        ),
        _listed("constant", False, "never changing", described, lambda d: d.constant),
        check_duplicates(store),
        check_gaps(store, timestamps),
        check_success(store),
        *([check_pictures(store)] if store.pictures else []),
    ]


def actions_beyond(actions: Float[np.ndarray, "T Da"], ends: Int[np.ndarray, " E"]) -> str:
    """Say in a line how many actions of episodes with these ends are beyond [-1, 1], where, and the
    largest; "" for none.
    """
    beyond = np.abs(actions) > 1 + ACTION_TOLERANCE
    steps = np.flatnonzero(beyond.any(axis=1))
    if not steps.size:
        return ""
    step, entry = np.unravel_index(np.abs(actions).argmax(), actions.shape)
    episode = int(np.searchsorted(ends, step, side="right"))
    place = f"episode {episode}, step {step - (ends[episode - 1] if episode else 0)}"
    concerned = len(np.unique(np.searchsorted(ends, steps, side="right")))
    return (
        f"{len(steps)} of {len(actions)} actions, in {concerned} of {len(ends)} episodes, are "
        f"beyond [-1, 1]; the largest is action[{entry}] = {actions[step, entry]:.7g} in {place}"
    )


def check_actions(store: DemonstrationStore) -> Finding:
    """Look for actions beyond [-1, 1], which the simulator would cut off."""
    actions = store.read(["action"])["action"].reshape(store.n_steps, store.action_size)
    beyond = actions_beyond(actions, store.episode_ends)
    return Finding("actions", bool(beyond), beyond or "in [-1, 1]")


def check_lengths(lengths: Int[np.ndarray, " E"]) -> Finding:
    """List episodes far from the median length."""
    median = float(np.median(lengths))
    odd = np.flatnonzero((lengths < SHORTEST * median) | (lengths > LONGEST * median))
    text = f"{lengths.min()} to {lengths.max()} steps, median {median:g}"
    return Finding("lengths", False, text + (f"; far from it: {_some(odd)}" if odd.size else ""))


def check_duplicates(store: DemonstrationStore) -> Finding:
    """List episodes with the same observations and actions as an earlier one."""
    first: dict[tuple[int, int], int] = {}
    repeats = []
    start = 0
    data = store.read([*store.observation_sizes, "action"])
    for i, end in enumerate(store.episode_ends):
        content = b"".join(rows[start:end].tobytes() for rows in data.values())
        original = first.setdefault((len(content), zlib.crc32(content)), i)
        if original != i:
            repeats.append(f"{i} repeats {original}")
        start = end
    return Finding("duplicates", bool(repeats), _some(repeats) if repeats else "none")


def check_gaps(store: DemonstrationStore, timestamps: Float[np.ndarray, " T"] | None) -> Finding:
    """List steps that lack frames before the next: a jump of an observation or of the timestamps.

    A jump is a change of JUMP_RATIO times those before and after it. An episode's first two steps,
    in which simulators settle, do not count, nor do numbers of at most FEW_VALUES; losses of a few
    frames in slow motion are not found, nor any in arrays of more than MAX_DIMENSIONS.
    """
    begins = store.episode_ends - np.diff(store.episode_ends, prepend=0)
    inside = np.ones(store.n_steps - 1, bool)
    inside[store.episode_ends[:-1] - 1] = False
    jumps, irregular = np.zeros(len(inside), bool), np.zeros(len(inside), bool)
    for rows in store.read(list(store.observation_sizes)).values():
        flat = rows.reshape(len(rows), -1)
        if flat.shape[1] <= MAX_DIMENSIONS:
            jumps |= inside & _jumps(flat, inside)
    first_two = np.concatenate([begins, begins + 1])
    jumps[first_two[first_two < len(jumps)]] = False
    if timestamps is not None and inside.any():
        intervals = np.diff(timestamps)
        usual = np.median(intervals[inside])
        irregular = inside & (np.abs(intervals - usual) > 0.5 * usual)
    steps = np.flatnonzero(jumps | irregular)
    episodes = np.searchsorted(store.episode_ends, steps, side="right")
    where = [
        f"episode {e} after step {s - begins[e]}" for e, s in zip(episodes, steps, strict=True)
    ]
    wrong = bool(irregular.any()) or len(set(episodes)) > JUMP_SHARE * len(store)
    return Finding("frame gaps", wrong, _some(where) if where else "none")


def _jumps(rows: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Mark steps [T-1] whose change stands out from that of their neighbours."""
    values = _continuous_quaternions(np.array(rows, np.float64))
    span = np.ptp(values, axis=0)
    moving = [i for i, column in enumerate(values.T) if len(np.unique(column)) > FEW_VALUES]
    values = values[:, moving] / span[moving]
    step = np.where(inside, np.linalg.norm(np.diff(values, axis=0), axis=1), 0.0)
    usual = np.full(len(step), np.quantile(step[inside], 0.9) if inside.any() else 0.0)
    usual[1:] = np.maximum(usual[1:], step[:-1])
    usual[:-1] = np.maximum(usual[:-1], step[1:])
    return step > JUMP_RATIO * usual


def _continuous_quaternions(values: np.ndarray) -> np.ndarray:
    """Undo, in place in [T, D], changes of a quaternion's sign, which are no motion."""
    start = 0
    while start + 4 <= values.shape[1]:
        block = values[:, start : start + 4]
        if not np.allclose(np.linalg.norm(block, axis=1), 1.0, atol=1e-3):
            start += 1
            continue
        flipped = np.einsum("ti,ti->t", block[1:], block[:-1]) < 0
        block[1:] *= np.cumprod(np.where(flipped, -1.0, 1.0))[:, None]
        start += 4
    return values


def check_success(store: DemonstrationStore) -> Finding:
    """Count the episodes that succeed at some step."""
    if "success" not in store.names("data/"):
        return Finding("success", False, "not recorded")
    success = store.read(["success"])["success"].astype(bool)
    begins = store.episode_ends - np.diff(store.episode_ends, prepend=0)
    solved = np.logical_or.reduceat(success, begins)
    failed = f"; not: {_some(np.flatnonzero(~solved))}" if 0 < solved.sum() < len(solved) else ""
    return Finding("success", not solved.any(), f"{solved.sum()} of {len(solved)} episodes{failed}")


def check_pictures(store: DemonstrationStore) -> Finding:
    """Say which cameras there are, and list steps whose picture has one value only, as of a camera
    that saw nothing. Opening the store has compared shapes, types, files and checksums.
    """
    blank = []
    for camera in store.pictures:
        for start in range(0, store.n_steps, PICTURES_AT_A_TIME):
            seen = store.read_pictures(camera, start, start + PICTURES_AT_A_TIME)
            flat = seen.reshape(len(seen), -1)
            steps = np.flatnonzero(flat.min(axis=1) == flat.max(axis=1)) + start
            blank += [f"{camera} at step {step}" for step in steps]
    cameras = [f"{name} {width} x {height}" for name, (height, width, _) in store.pictures.items()]
    folders = [store.path / array for array in store.picture_arrays.values()]
    size = sum(f.stat().st_size for folder in folders for f in folder.rglob("*") if f.is_file())
    text = f"{', '.join(cameras)}; {size / 1e6:.1f} MB"
    return Finding("pictures", bool(blank), text + (f"; blank: {_some(blank)}" if blank else ""))


def _listed(
    check: str,
    wrong: bool,
    what: str,
    described: list[Dimension],
    holds: Callable[[Dimension], bool],
) -> Finding:
    names = [d.name for d in described if holds(d)]
    return Finding(check, wrong and bool(names), f"{what}: {_some(names)}" if names else "none")


def _some(items) -> str:
    """Join the first few of a list."""
    shown = ", ".join(str(item) for item in items[:SHOWN])
    return shown + (f" and {len(items) - SHOWN} more" if len(items) > SHOWN else "")
