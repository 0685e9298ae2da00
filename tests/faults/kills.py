"""Kill commands at random moments, again and again, until each has done its work.

PYTHONPATH=tests python -m faults.kills --count 100 train collect convert

A command that was killed is typed again (a run is resumed); what it leaves in the end must be, byte
for byte, what an undisturbed one leaves, and nothing beside it.
"""

import argparse
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from support.foreign import make_robomimic
from support.tiny_run import OPTIONS, make_demonstrations, start

LIMIT = 600  # seconds of a process that nothing disturbs


@dataclass(frozen=True)
class Work:
    """A command, what must be there before it, and what it leaves: all files below `results`."""

    module: str
    prepare: Callable[[Path], object]
    arguments: Callable[[Path], list[str]]
    results: tuple[str, ...]
    ignored: tuple[str, ...] = ()  # names of files that hold times


def _train(folder):
    run = folder / "runs" / "mine"
    if (run / "config.yaml").exists():
        return [f"resume={run}"]
    return [
        "env=push,window-close",
        *OPTIONS,
        f"demonstrations.path={folder / 'stores'}",
        "name=mine",
    ]


WORK = {
    "train": Work(
        "reconverge.policy.train",
        lambda folder: make_demonstrations(folder / "stores", ["push", "window-close"]),
        _train,
        (
            "runs/mine/checkpoints/0_push",
            "runs/mine/checkpoints/1_window-close",
            "stores/push.zarr",
        ),
        ("manifest.json",),
    ),
    "collect": Work(
        "reconverge.tools.collect",
        lambda folder: None,
        lambda folder: ["env=lift", "episodes=12", "workers=1", f"path={folder / 'stores'}"],
        ("stores/lift.zarr",),
    ),
    "convert": Work(
        "reconverge.tools.convert",
        lambda folder: make_robomimic(folder / "demonstrations.hdf5"),
        lambda folder: [f"source={folder}/demonstrations.hdf5", f"target={folder}/made/lift.zarr"],
        ("made/lift.zarr",),
        ("episode_attributes.zip",),
    ),
}


@dataclass(frozen=True)
class Chain:
    """One piece of work, killed until it was done; `wrong` says what is not as it should be."""

    kills: int
    wrong: list[str]


class Trials:
    """Many chains of one kind of work, compared with one that nothing disturbed."""

    def __init__(self, name, folder):
        self._work, self._folder = WORK[name], folder
        self._place = folder / "trial"
        self._prepare()
        began = time.monotonic()
        said = self._start().communicate(timeout=LIMIT)
        self._seconds = time.monotonic() - began
        self._expected = self._left()
        assert all((self._place / name).exists() for name in self._work.results), said

    def chain(self, seed, most=5):
        """Kill at moments that the seed draws, at most so often, and let the last try end."""
        rng, kills = random.Random(seed), 0
        self._prepare()
        for _ in range(most):
            process = self._start()
            try:
                process.communicate(timeout=rng.uniform(0.1, 0.8) * self._seconds)
                break
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.communicate()
                kills += 1
        wrong = self._finish()
        found = self._left()
        names = found.keys() | self._expected.keys()
        return Chain(
            kills, wrong + sorted(n for n in names if found.get(n) != self._expected.get(n))
        )

    def _finish(self):
        """Type the command once more; what it said if it failed, though its work was not done."""
        done = all((self._place / name).exists() for name in self._work.results)
        process = self._start()
        _, err = process.communicate(timeout=LIMIT)
        refused = process.returncode == 2 and done and "exists already" in err
        failed = (process.returncode and not refused) or "Traceback" in err
        return [err[-500:]] if failed else []

    def _prepare(self):
        shutil.rmtree(self._place, ignore_errors=True)
        self._place.mkdir(parents=True)
        self._work.prepare(self._place)

    def _start(self):
        return start(self._work.arguments(self._place), self._place, self._work.module)

    def _left(self):
        """The content of the results, and the name alone of everything else."""
        found = {}
        for path in sorted(self._place.rglob("*")):
            name = str(path.relative_to(self._place))
            compared = name.startswith(self._work.results) and path.name not in self._work.ignored
            if path.is_file() and "tensorboard" not in name:
                found[name] = path.read_bytes() if compared else b""
        return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", nargs="+", choices=WORK)
    parser.add_argument("--count", type=int, default=20, help="kills of each work, at least")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for name in options.work:
        with tempfile.TemporaryDirectory() as folder:
            trials, kills, chains, seed = Trials(name, Path(folder)), 0, [], options.seed
            while kills < options.count:
                chains.append(trials.chain(seed))
                kills, seed = kills + chains[-1].kills, seed + 1
        bad = [chain for chain in chains if chain.wrong]
        print(f"{name}: {kills} kills in {len(chains)} chains, {len(bad)} not as undisturbed")
        for chain in bad:
            print("  " + "; ".join(chain.wrong))


if __name__ == "__main__":
    main()
