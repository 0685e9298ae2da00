"""Where the penalty helps: the trust region against replay alone under stress. `python -m
tools.stress runs/stress/*`.

Each folder is one setting and holds its runs (or their summary.json files): the same seeds without
a Fisher penalty and with one, or with several to compare. Differences are paired by seed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from reconverge.configs import commandline
from reconverge.paths import check_output
from reconverge.policy.reports.rows.stress_rows import write_stress


def main() -> None:
    """Exit with code 2 and one line for input that cannot be compared."""
    with commandline.front_door():
        arguments = _arguments()
        check_output(arguments.output, "--output", folder=True)
        print(write_stress(arguments.settings, arguments.output))


def _arguments() -> argparse.Namespace:
    parser = commandline.Parser("tools.stress", description=__doc__)
    parser.add_argument(
        "settings",
        nargs="+",
        type=commandline.path,
        help="folders, each with the runs of one setting",
    )
    parser.add_argument(
        "--output",
        type=commandline.path,
        default=Path("stress"),
        help="folder for the table and the picture (%(default)s)",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
