"""One page about a run, or about several compared: `python -m tools.report runs/<name> [more
runs]`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from reconverge.configs import commandline
from reconverge.policy.reports.page import write_report


def main() -> None:
    """Exit with code 2 and one line for input that cannot be reported on."""
    arguments = _arguments()
    paths = [Path(run) for run in arguments.runs]
    alone = len(paths) == 1 and paths[0].is_dir()
    output = Path(
        arguments.output or (paths[0] / "report.html" if alone else "comparison/report.html")
    )
    with commandline.errors_in_one_line():
        write_report(paths, output)
    print(f"see {output}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.report", description=__doc__)
    parser.add_argument("runs", nargs="+", help="folders of finished runs, or summary.json files")
    parser.add_argument(
        "--output", help="file to write (default: report.html of the run; of several: comparison/)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
