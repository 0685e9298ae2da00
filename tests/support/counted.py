"""Lists that count how often they are gone through."""

from collections.abc import Iterator
from typing import Any


class Counted(list):
    """A list; `times` says how often it was gone through."""

    times = 0

    def __iter__(self) -> Iterator[Any]:
        self.times += 1
        return super().__iter__()
