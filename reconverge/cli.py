"""The command `reconverge`: one sub-command for every front door."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import version

from reconverge.errors import ReconvergeError, unknown
from reconverge.process import interruptible, printing, report

COMMANDS = {
    "train": ("policy.train", "learn tasks one after another"),
    "images": ("tools.images", "learn to generate pictures, some classes after others"),
    "evaluate": ("policy.evaluate", "success rate of a trained policy in the simulator"),
    "serve": ("policy.serve", "action chunks over TCP, for robots' processes"),
    "collect": ("tools.collect", "record demonstrations of scripted experts"),
    "convert": ("tools.convert", "demonstrations from and to robomimic, diffusion_policy, LeRobot"),
    "check-store": ("tools.check_store", "what is in demonstration stores, and what is wrong"),
    "export": ("tools.export", "a policy as safetensors and ONNX, with its contract"),
    "export-video": ("tools.export_video", "film a policy, two side by side, or an expert"),
    "compare": ("tools.compare", "tables and a figure of several runs"),
    "report": ("tools.report", "one HTML page about a run, or about several compared"),
    "stress": ("tools.stress", "the trust region against replay alone, setting by setting"),
    "meta-alignment": ("tools.meta_alignment", "a run's steps against MAML's meta-gradient"),
    "benchmark simulation": ("tools.benchmark.simulation", "stepping, resets and evaluation"),
    "benchmark looking": ("tools.benchmark.looking", "pictures for observations"),
    "benchmark equality": ("tools.benchmark.equality", "Meta-World against metaworld's own steps"),
    "benchmark success-rates": ("tools.benchmark.success_rates", "success of the scripted experts"),
    "benchmark update": ("tools.benchmark.update", "an update of trust_region and of replay"),
    "benchmark learning-speed": ("tools.benchmark.learning_speed", "success after few updates"),
    "benchmark conversion": ("tools.benchmark.conversion", "seconds of every conversion"),
    "benchmark latency": ("tools.benchmark.latency", "acting on one observation"),
}
"""Sub-command: module below `reconverge`, and its line in the help."""


def main() -> None:
    """Run the sub-command that `sys.argv` names; exit code 2 and one line if there is none."""
    arguments = sys.argv[1:]
    try:
        with printing():
            said = answer(arguments)
            if said is not None:
                print(said)
                return
            command, rest = find_command(arguments)
    except BrokenPipeError:  # nobody reads on, as after `| head -1`
        raise SystemExit(2) from None
    except OSError as error:
        report(ReconvergeError(f"stdout: {error.strerror}; print to another place"))
        raise SystemExit(2) from None
    except ReconvergeError as error:
        report(error)
        raise SystemExit(2) from None
    # hydra and argparse take the program's name from here.
    sys.argv[:] = [f"reconverge {command}", *rest]
    with interruptible():  # imports take a while
        import_module(f"reconverge.{COMMANDS[command][0]}").main()


def answer(arguments: list[str]) -> str | None:
    """Return what is asked for without a sub-command: the help or the version; None for neither."""
    if set(arguments) <= {"benchmark", "-h", "--help"}:
        return help_text()
    return version("reconverge") if arguments == ["--version"] else None


def find_command(arguments: list[str]) -> tuple[str, list[str]]:
    """Split the arguments into a sub-command of one or two words and its own arguments."""
    for words in (1, 2):
        command = " ".join(arguments[:words])
        if command in COMMANDS:
            return command, arguments[words:]
    words = 2 if arguments[0] == "benchmark" else 1
    raise unknown("command", " ".join(arguments[:words]), COMMANDS)


def help_text() -> str:
    """Return the usage with one line for every sub-command."""
    width = max(map(len, COMMANDS))
    return "\n".join(
        [
            "usage: reconverge COMMAND [option ...]",
            "",
            "Continual diffusion policies: learn robot tasks one after another.",
            "",
            *(f"  {command:{width}}  {line}" for command, (_, line) in COMMANDS.items()),
            "",
            "reconverge COMMAND --help lists its options; reconverge --version prints the version",
        ]
    )
