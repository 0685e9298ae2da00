"""Compare a run's steps with MAML's meta-gradient: `python -m tools.meta_alignment runs/<name>`.

At every checkpoint of a finished task, for every task before it: cosines of the steps of replay and
of the trust region with the exact meta-gradient, and the error of each approximation in between.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from reconverge.configs import commandline
from reconverge.files import write_json
from reconverge.paths import check_output
from reconverge.policy.reports.charts.alignment_chart import alignment
from reconverge.policy.reports.charts.style import write_png
from reconverge.policy.reports.meta_gradient import measure_run
from reconverge.policy.runs.provenance import commit, hardware


def main() -> None:
    """Exit with code 2 and one line for a run that cannot be measured."""
    with commandline.front_door():
        arguments = _arguments()
        measure(arguments.run, arguments.inner_rate, arguments.windows)


def measure(run: Path, inner_rate: float, windows: int) -> None:
    """Write `meta_alignment.json` and `plots/meta_alignment.png` into the run's folder."""
    outputs = run / "meta_alignment.json", run / "plots" / "meta_alignment.png"
    for output in outputs if run.is_dir() else ():
        check_output(output, "run")
    facts, pairs = measure_run(run, inner_rate, windows)
    origin = {"commit": commit(), "hardware": hardware()}
    write_json(outputs[0], {**facts, **origin, "pairs": pairs})
    write_png(alignment(pairs, facts["names"]), outputs[1])
    print(*outputs, sep=", ")


def _arguments() -> argparse.Namespace:
    parser = commandline.Parser("tools.meta_alignment", description=__doc__)
    parser.add_argument(
        "run", type=commandline.path, help="folder of a run that rehearses earlier tasks"
    )
    parser.add_argument(
        "--inner-rate", type=float, default=1e-4, help="of MAML's inner step (%(default)s)"
    )
    parser.add_argument(
        "--windows", type=int, default=2048, help="of each set of an earlier task (%(default)s)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
