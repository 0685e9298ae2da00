"""The one kind of progress bar."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

ON_A_TERMINAL, IN_A_LOG = 0.1, 30.0  # seconds between two states of a bar


def progress_bar(
    title: str,
    unit: str,
    total: int | None = None,
    *,
    over: Iterable[Any] | None = None,
    done: int = 0,
) -> tqdm:
    """Show how much is done of `total`, from `done` on, or of the iterable `over`, on stderr.

    A log file gets few lines. `set_postfix` must leave `refresh=False`, which writes at once
    otherwise.
    """
    every = ON_A_TERMINAL if sys.stderr.isatty() else IN_A_LOG
    return tqdm(
        over,
        desc=title,
        unit=unit,
        total=total,
        initial=done,
        dynamic_ncols=True,
        mininterval=every,
        maxinterval=max(every, 10.0),
    )
