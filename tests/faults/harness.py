"""Damage things at random and see what their consumers make of it.

PYTHONPATH=tests python -m faults.harness --count 600 checkpoint package store

Every outcome is one of four: refused in one line; harmless, because all that is read equals what
was written; silent, another value that is used; or a traceback.
"""

import argparse
import random
import shutil
import tempfile
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path

import numpy as np
import torch
from faults.damages import damage
from faults.subjects import SUBJECTS

from reconverge.errors import ReconvergeError

REFUSED, HARMLESS, SILENT, TRACEBACK = "refused", "harmless", "silent", "traceback"
VERDICTS = (REFUSED, HARMLESS, SILENT, TRACEBACK)


@dataclass(frozen=True)
class Outcome:
    """What one damage, of this seed, came to; `said` is the error, in its own words."""

    seed: int
    damage: str
    verdict: str
    said: str = ""


class Trials:
    """Many damages of one subject, each to a fresh copy of it."""

    def __init__(self, subject, folder):
        self._subject, self._place = subject, folder / "trial"
        for made in ("whole", "trial"):
            (folder / made).mkdir(parents=True)
        self._whole = subject.make(folder / "whole")
        self._expected = plain(subject.read(self._copy()))

    def run(self, seed):
        """Return the Outcome of the damage with this seed."""
        copy, rng = self._copy(), random.Random(seed)
        how = damage(rng, copy)
        try:
            found = plain(self._subject.read(copy))
        except ReconvergeError as error:
            lines = str(error).splitlines()
            return Outcome(seed, how, REFUSED if len(lines) == 1 else TRACEBACK, str(error))
        except Exception as error:
            return Outcome(seed, how, TRACEBACK, f"{type(error).__name__}: {error}")
        return Outcome(seed, how, HARMLESS if found == self._expected else SILENT)

    def _copy(self):
        """A fresh copy, always at the same place."""
        shutil.rmtree(self._place)
        self._place.mkdir()
        target = self._place / self._whole.name
        copy = shutil.copytree if self._whole.is_dir() else shutil.copy
        return Path(copy(self._whole, target))


def plain(value):
    """A value as dictionaries, lists and bytes, which are equal only if every bit is."""
    if isinstance(value, torch.Tensor):
        value = value.numpy()
    if isinstance(value, np.ndarray | np.generic):
        return [value.dtype.str, list(value.shape), value.tobytes()]
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return repr(value)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("subjects", nargs="*", default=[*SUBJECTS], help=", ".join(SUBJECTS))
    parser.add_argument("--count", type=int, default=100, help="damages of each (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the first (%(default)s)")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    for name in arguments.subjects:
        with tempfile.TemporaryDirectory() as folder:
            trials = Trials(SUBJECTS[name], Path(folder))
            seeds = range(arguments.seed, arguments.seed + arguments.count)
            outcomes = [trials.run(seed) for seed in seeds]
        counts = Counter(outcome.verdict for outcome in outcomes)
        print(f"{name}: " + ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS))
        for outcome in outcomes:
            if outcome.verdict in (SILENT, TRACEBACK):
                said = " ".join(outcome.said.split())[:160]
                print(f"  {outcome.verdict}, seed {outcome.seed}: {outcome.damage}  {said}")


if __name__ == "__main__":
    main()
