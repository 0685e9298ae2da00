"""Split vectors into the observations of a task: LeRobot's `observation.state` into its parts."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import accumulate
from typing import Any

import numpy as np

from reconverge.datasets.formats.arrays import NAME, ConversionError, widen, wider_type
from reconverge.datasets.formats.exchange import Demonstrations, dictionary, without
from reconverge.datasets.layout import RESERVED, Episode

EXAMPLE = "split=observation.state=robot0_eef_pos:3,robot0_eef_quat:4"
PART = re.compile(rf"({NAME.pattern}):(\d+)")

Parts = dict[str, list[tuple[str, int]]]  # by vector: names and sizes of the new observations


def parse_split(text: str) -> Parts:
    """Read `vector=name:size,name:size`, several of them with a `;` between.

    Raises ConversionError, for all of them at once.
    """
    found: Parts = {}
    bad = []
    for item in text.split(";"):
        vector, _, listed = (part.strip() for part in item.partition("="))
        parts = [PART.fullmatch(part.strip()) for part in listed.split(",")]
        if not vector or not all(parts) or vector in found:
            bad.append(repr(item))
        found[vector] = [(part[1], int(part[2])) for part in parts if part]
    if bad:
        raise ConversionError(
            f"split= has {', '.join(bad)}, expected each vector once with its parts, as {EXAMPLE}"
        )
    return found


def split(demonstrations: Demonstrations, parts: Parts) -> Demonstrations:
    """Return the demonstrations with observations in the place of these vectors.

    A vector is an observation or an extra; its parts are observations. Raises ConversionError, for
    all vectors at once, unless the sizes of the parts are those of the vectors.
    """
    sizes = {**demonstrations.observation_sizes, **demonstrations.extra_sizes}
    mistakes = list(_mistakes(sizes, parts))
    if mistakes:
        told = "; ".join(dict.fromkeys(mistakes))
        raise ConversionError(f"{demonstrations.source}: split= {told}")
    real = {vector: wider_type(np.dtype(demonstrations.type_of(vector)), True) for vector in parts}
    observations: dict[str, int] = {}
    for name, size in {**demonstrations.observation_sizes, **dict.fromkeys(parts, 0)}.items():
        observations |= dict(parts.get(name, [(name, size)]))
    kinds = {name: real[vector] for vector, named in parts.items() for name, _ in named}
    types = {**without(demonstrations.types, parts), **kinds}
    attributes = dict(demonstrations.attributes)
    if dictionary(attributes, "row_shapes"):
        attributes["row_shapes"] = without(attributes["row_shapes"], parts)
    return replace(
        demonstrations,
        episodes=_episodes(demonstrations, parts, real),
        observation_sizes=observations,
        extra_sizes=without(demonstrations.extra_sizes, parts),
        types={name: kind for name, kind in types.items() if kind != "float32"},
        attributes=attributes,
    )


def _mistakes(sizes: Mapping[str, int], parts: Parts) -> Iterator[str]:
    names = [name for named in parts.values() for name, _ in named]
    taken = {*sizes, *RESERVED} - parts.keys()
    for vector, named in parts.items():
        total = sum(size for _, size in named)
        if vector not in sizes:
            yield f"names {vector}; choose from {', '.join(sizes)}"
        elif total != sizes[vector]:
            yield f"gives {vector} {total} numbers, it has {sizes[vector]}"
        for name, size in named:
            if not size:
                yield f"gives {name} no number"
            if name in taken or names.count(name) > 1:
                yield f"gives the name {name} twice"


def _episodes(
    demonstrations: Demonstrations, parts: Parts, real: Mapping[str, str]
) -> Iterator[tuple[Episode, dict[str, Any]]]:
    for episode, own in demonstrations.episodes:
        given = {**episode.observations, **episode.extras}
        observations = without(episode.observations, parts)
        for vector, named in parts.items():
            rows = widen(f"{demonstrations.source}: {vector}", given[vector], real[vector])
            for (name, size), end in zip(named, accumulate(n for _, n in named), strict=True):
                observations[name] = rows[:, end - size : end]
        yield (
            replace(episode, observations=observations, extras=without(episode.extras, parts)),
            own,
        )
