"""Where the penalty helps: the trust region against replay alone under stress. `python -m
tools.stress runs/stress/*`.

Each folder is one setting and holds its runs (or their summary.json files): the same seeds without
a Fisher penalty and with one, or with several to compare. Differences are paired by seed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from reconverge.configs import commandline
from reconverge.policy.reports.rows.stress_rows import write_stress


def main() -> None:
    """Exit with code 2 and one line for input that cannot be compared."""
    arguments = _arguments()
    with commandline.errors_in_one_line():
        print(write_stress([Path(name) for name in arguments.settings], Path(arguments.output)))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.stress", description=__doc__)
    parser.add_argument("settings", nargs="+", help="folders, each with the runs of one setting")
    parser.add_argument(
        "--output", default="stress", help="folder for the table and the picture (%(default)s)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
