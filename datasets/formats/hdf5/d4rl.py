"""Read D4RL's HDF5 files (Fu et al. 2020, 2004.07219): the steps of all episodes in one array."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from reconverge.datasets.formats.arrays import (
    RESTORE,
    ConversionError,
    Field,
    check_rows,
    schema_of,
)
from reconverge.datasets.formats.exchange import Demonstrations, make_episode, row_shapes
from reconverge.datasets.formats.hdf5.contents import Array, arrays_below, open_file
from reconverge.datasets.formats.hdf5.survey import Layout, survey
from reconverge.datasets.layout import Episode

STORE_NAMES = {
    "actions": "action",
    "rewards": "reward",
    "infos/success": "success",
    "infos/goal_achieved": "success",
}
ENDINGS = ("terminals", "timeouts")  # arrays that are true where an episode ends
STEPS = ("actions", "rewards", "observations", "next_observations", *ENDINGS)


def read_d4rl(path: Path, leave_out: Collection[str] = ()) -> Demonstrations:
    """Read the episodes, which end where `terminals` or `timeouts` says so, and with the file.

    Groups become parts of names: `infos/qpos` is the extra `infos.qpos`. Raises ConversionError.
    """
    source = str(path)
    with open_file(path) as file:
        arrays = dict(arrays_below(source, file.id))
        ends = _ends(source, arrays)
        kinds = {"the file": {place: (array.dtype, array.shape) for place, array in arrays.items()}}
        layout = Layout(STORE_NAMES, "observations", STEPS)
        fields, warnings = survey(source, layout, kinds, leave_out)
    record: dict[str, Any] = {
        **schema_of(fields),
        "row_shapes": row_shapes(fields),
    }
    episodes = _episodes(path, fields, ends)
    return Demonstrations.from_record(source, len(ends), episodes, record, leave_out, warnings)


def _ends(source: str, arrays: Mapping[str, Array]) -> Int[np.ndarray, " E"]:
    """Return the number of the step after each episode."""
    marks = [name for name in ENDINGS if name in arrays]
    steps = next(iter(arrays["actions"].shape), 0) if "actions" in arrays else 0
    if not steps or not marks:
        raise ConversionError(
            f"{source}: looks like D4RL's, but has {steps} steps and "
            f"{' and '.join(marks) or 'neither terminals nor timeouts'}; {RESTORE}"
        )
    ended = np.zeros(steps, bool)
    for name in marks:
        rows = np.ravel(arrays[name].read(f"{source}: {name}")) != 0
        if len(rows) != steps:
            raise ConversionError(f"{source}: {name} has {len(rows)} rows, not {steps}; {RESTORE}")
        ended |= rows
    ended[-1] = True
    return np.flatnonzero(ended) + 1


def _episodes(
    path: Path, fields: Mapping[str, Field], ends: Int[np.ndarray, " E"]
) -> Iterator[tuple[Episode, dict[str, Any]]]:
    keys = [name for name, field in fields.items() if field.observation]
    with open_file(path) as file:
        arrays = dict(arrays_below(str(path), file.id))
        rows = {}
        for name, field in fields.items():
            where = f"{path}: {field.path}"
            values = arrays[field.path].read(where)
            rows[name] = check_rows(where, values, int(ends[-1]), field.store_type)
    for start, stop in zip([0, *ends[:-1]], ends, strict=True):
        yield make_episode({name: values[start:stop] for name, values in rows.items()}, keys), {}
