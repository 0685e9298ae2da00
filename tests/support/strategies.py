"""Draw random names, attributes and numbers for round trips."""

import numpy as np
from hypothesis import strategies as st

RESERVED_NAMES = {
    "action",
    "reward",
    "success",
    "obs",
    "actions",
    "rewards",
    "timestamp",
    "index",
    "frame_index",
    "episode_index",
    "task_index",
    "episode_ends",
    "num_samples",
    "scalars",
    "zarr.json",
}

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,11}", fullmatch=True).filter(
    lambda name: name.lower() not in RESERVED_NAMES and not name.startswith("observation.")
)

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3)
    ),
    max_leaves=4,
)


def numbers(rng, shape, kind):
    """Draw any numbers of a type: extreme ones, negative zero."""
    if kind == "bool":
        return rng.random(shape) < 0.5
    if kind.startswith("float"):
        rows = rng.standard_normal(shape) * 10.0 ** rng.integers(-40, 30, shape)
        return np.where(rng.random(shape) < 0.1, -0.0, rows).astype(kind)
    return rng.integers(np.iinfo(kind).min, np.iinfo(kind).max, shape, dtype=kind, endpoint=True)
