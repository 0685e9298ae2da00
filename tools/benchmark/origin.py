"""What every result of a benchmark says of its making, and where it goes."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from reconverge.files import write_json
from reconverge.policy.runs.provenance import command, commit, hardware


def origin(packages: Sequence[str], device: str | None = None) -> dict[str, Any]:
    """Return the command, the commit, versions of packages and the hardware."""
    return {
        "command": command(),
        "commit": commit(),
        "versions": {name: version(name) for name in packages},
        "hardware": hardware() | ({"device": device} if device else {}),
    }


def publish(report: dict[str, Any], output: Path | None = None) -> None:
    """Print a report as one JSON line, and write it to a file if one is named."""
    if output is not None:
        write_json(output, report)
    print(json.dumps(report), flush=True)


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Return the median of the turns' ratios."""
    return round(statistics.median([a / b for a, b in zip(above, below, strict=True)]), 3)
