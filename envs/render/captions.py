"""Captions on pictures, and grids of pictures: the frames of a film."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from reconverge.errors import ReconvergeError

WHITE, GREEN, RED = (255, 255, 255), (120, 230, 120), (255, 120, 110)
LARGEST = (4096, 2304)  # pixels of a frame that browsers decode (H.264, level 5.1)
SMALLEST_TEXT = 8  # pixels
OUTCOME = 12  # characters that the outcome of an episode takes, and the margins
GAP = 8  # pixels between two grids


def caption(
    picture: UInt8[np.ndarray, "height width 3"],
    text: str,
    outcome: str,
    color: tuple[int, int, int],
) -> UInt8[np.ndarray, "height width 3"]:
    """Return a copy of the picture with a line of text at its foot, the outcome at the right end in
    `color`.
    """
    height, width = picture.shape[:2]
    size = text_size(width, text)
    darkened = picture.copy()
    darkened[height - 2 * size :] //= 4
    return _write(darkened, height - size, size, text, outcome, color)


def inset(
    picture: UInt8[np.ndarray, "height width 3"], seen: UInt8[np.ndarray, "cameras size size 3"]
) -> UInt8[np.ndarray, "height width 3"]:
    """Return a copy of the picture with what each camera sees in a row at its upper right, each a
    quarter of the picture's height.
    """
    side = picture.shape[0] // 4
    shown = picture.copy()
    for i, small in enumerate(seen[::-1]):
        right = picture.shape[1] - i * (side + 2)
        if right >= side:
            enlarged = Image.fromarray(small).resize((side, side), Image.Resampling.NEAREST)
            shown[:side, right - side : right] = np.asarray(enlarged)
    return shown


def text_size(width: int, text: str) -> int:
    """Return the letter height with which a line fits beside an outcome in `width` pixels, at least
    SMALLEST_TEXT.
    """
    letters = 0.56 * (len(text) + OUTCOME)  # a letter is about half as wide as high
    return max(SMALLEST_TEXT, min(width // 30, int(width / letters)))


def shortened(name: str, rest: str, width: int) -> str:
    """Return `name` and `rest` as one line of text for `width` pixels, the name cut where it does
    not fit beside the outcome.
    """
    room = int(width / (0.56 * SMALLEST_TEXT)) - OUTCOME - len(rest)
    return (name if len(name) <= room else name[: max(0, room - 1)].rstrip() + "…") + rest


@dataclass(frozen=True)
class Grid:
    """A frame with the pictures of several episodes, row by row.

    With `titles` there is a grid for each, side by side under its title, and the episodes of all
    are given in turn. Raises ReconvergeError for a frame larger than browsers decode.
    """

    episodes: int
    width: int  # of a picture, pixels
    height: int
    titles: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        width, height = self.size
        if width > LARGEST[0] or height > LARGEST[1]:
            raise ReconvergeError(
                f"{self.episodes} episodes of {self.width} x {self.height} pixels make frames of "
                f"{width} x {height}, browsers play up to {LARGEST[0]} x {LARGEST[1]}; "
                "give a smaller n_episodes, or width and height"
            )

    @property
    def columns(self) -> int:
        return math.ceil(math.sqrt(self.episodes))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of a frame, pixels."""
        grids = max(1, len(self.titles))
        rows = math.ceil(self.episodes / self.columns)
        width = grids * self.columns * self.width + (grids - 1) * GAP
        return width, rows * self.height + self._band

    def frame(
        self, pictures: Sequence[UInt8[np.ndarray, "height width 3"]], successes: Sequence[bool]
    ) -> UInt8[np.ndarray, "frame_height frame_width 3"]:
        """Return one picture of all; a title counts the successes so far of its episodes."""
        width, height = self.size
        frame = np.zeros((height, width, 3), np.uint8)
        step = self.columns * self.width + GAP
        for i, picture in enumerate(pictures):
            grid, place = divmod(i, self.episodes)
            row, column = divmod(place, self.columns)
            top, left = self._band + row * self.height, grid * step + column * self.width
            frame[top : top + self.height, left : left + self.width] = picture
        for grid, title in enumerate(self.titles):
            solved = sum(successes[grid * self.episodes : (grid + 1) * self.episodes])
            left = grid * step
            band = frame[: self._band, left : left + step - GAP]
            band[:] = _title(band, title, f"{solved} of {self.episodes} successful")
        return frame

    @property
    def _band(self) -> int:
        """Height of the titles, pixels, even."""
        return 4 * max(SMALLEST_TEXT, self.columns * self.width // 64) if self.titles else 0


def _title(band: np.ndarray, title: str, score: str) -> np.ndarray:
    size, width = band.shape[0] // 2, band.shape[1]
    while size > SMALLEST_TEXT and _length(score, size) > width // 2:
        size -= 1
    room = width - 3 * size - _length(score, size)
    if _length(title, size) > room:
        title = "..." + title
    # The end of a path tells more than its beginning.
    while len(title) > 3 and _length(title, size) > room:
        title = "..." + title[4:]
    return _write(band, band.shape[0] // 2, size, title, score, WHITE)


def _write(
    picture: np.ndarray, middle: int, size: int, left: str, right: str, color: tuple[int, int, int]
) -> np.ndarray:
    """Return a copy with a line of text around the row `middle`."""
    image, font, width = Image.fromarray(picture), _font(size), picture.shape[1]
    draw = ImageDraw.Draw(image)
    draw.text((size, middle), left, WHITE, font, anchor="lm")
    draw.text((width - size, middle), right, color, font, anchor="rm")
    return np.asarray(image)


def _length(text: str, size: int) -> float:
    return _font(size).getlength(text)


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
