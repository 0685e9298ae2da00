"""One page about a run, or about several compared: `python -m tools.report runs/<name> [more
runs]`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from reconverge.configs import commandline
from reconverge.paths import check_output
from reconverge.policy.reports.page import write_report
from reconverge.policy.reports.run import finished_runs


def main() -> None:
    """Exit with code 2 and one line for input that cannot be reported on."""
    with commandline.front_door():
        arguments = _arguments()
        runs = finished_runs(arguments.runs)
        folder = runs[0] if len(runs) == 1 and runs[0].is_dir() else Path("comparison")
        output = arguments.output or folder / "report.html"
        check_output(output, "--output", suffixes=(".html", ".htm"))
        write_report(runs, output)
        print(f"see {output}")


def _arguments() -> argparse.Namespace:
    parser = commandline.Parser("tools.report", description=__doc__)
    parser.add_argument(
        "runs",
        nargs="+",
        type=commandline.path,
        help="folders of runs, or summary.json files; what is no finished run is left out",
    )
    parser.add_argument(
        "--output",
        type=commandline.path,
        help="file to write (default: report.html of the run; of several: comparison/)",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
