"""A policy in one folder: `python -m tools.export checkpoint=runs/<name> output=exported`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from reconverge.configs import commandline
from reconverge.configs.store import Command
from reconverge.options import option
from reconverge.paths import check_output
from reconverge.policy.deployment.package import write_package
from reconverge.policy.runs.loading import load_policy


@dataclass(frozen=True)
class ExportOptions:
    """Write a policy for use elsewhere."""

    checkpoint: str | None = option(
        None, "folder of a run (its newest checkpoint) or of one checkpoint in it", text="path"
    )
    output: str = option("exported", "folder to write; it must not exist yet", text="path")


COMMAND = Command(
    "export", "python -m tools.export checkpoint=runs/<name> output=exported", ExportOptions
)


def main() -> None:
    commandline.run(COMMAND, run)


def run(options: ExportOptions) -> None:
    """Write the folder, whole or not at all."""
    target = Path(options.output)
    check_output(target, folder=True)
    loaded = load_policy(options.checkpoint)
    difference = write_package(loaded, target)
    names = ", ".join(task.label for task in loaded.tasks)
    print(f"{target}: {names}; differs from the policy by at most {difference:.1e}")


if __name__ == "__main__":
    main()
