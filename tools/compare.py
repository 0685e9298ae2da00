"""Tables and a picture of several runs: `python -m tools.compare runs/*` (run folders or
summary.json files).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from reconverge.configs import commandline
from reconverge.policy.reports.rows.comparison import write_comparison


def main() -> None:
    """Exit with code 2 and one line for input that cannot be compared."""
    arguments = _arguments()
    paths = [Path(run) for run in arguments.runs]
    with commandline.errors_in_one_line():
        print(write_comparison(paths, Path(arguments.output), arguments.reference))
    print(f"everything is in {arguments.output}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.compare", description=__doc__)
    parser.add_argument("runs", nargs="+", help="folders of finished runs, or summary.json files")
    parser.add_argument(
        "--output", default="comparison", help="folder for the tables and the picture (%(default)s)"
    )
    parser.add_argument(
        "--reference", help="what the others are paired with (default: replay, else the first)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
