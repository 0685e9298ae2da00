"""Tables and a picture of several runs: `python -m tools.compare runs/*` (run folders or
summary.json files).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from reconverge.configs import commandline
from reconverge.paths import check_output
from reconverge.policy.reports.rows.comparison import write_comparison
from reconverge.policy.reports.run import finished_runs


def main() -> None:
    """Exit with code 2 and one line for input that cannot be compared."""
    with commandline.front_door():
        arguments = _arguments()
        check_output(arguments.output, "--output", folder=True)
        runs = finished_runs(arguments.runs)
        print(write_comparison(runs, arguments.output, arguments.reference))
        print(f"everything is in {arguments.output}")


def _arguments() -> argparse.Namespace:
    parser = commandline.Parser("tools.compare", description=__doc__)
    parser.add_argument(
        "runs",
        nargs="+",
        type=commandline.path,
        help="folders of runs, or summary.json files; what is no finished run is left out",
    )
    parser.add_argument(
        "--output",
        type=commandline.path,
        default=Path("comparison"),
        help="folder for the tables and the picture (%(default)s)",
    )
    parser.add_argument(
        "--reference", help="what the others are paired with (default: replay, else the first)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
