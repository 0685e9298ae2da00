import numpy as np
import pytest
from PIL import ImageFont

from reconverge.envs.catalog import TASKS
from reconverge.envs.render.captions import GAP, Grid, inset, shortened, text_size


def cell(value, width=64, height=48):
    return np.full((height, width, 3), value, np.uint8)


@pytest.mark.parametrize(
    ("episodes", "columns", "size"),
    [
        (1, 1, (64, 48)),
        (2, 2, (128, 48)),
        (3, 2, (128, 96)),
        (4, 2, (128, 96)),
        (5, 3, (192, 96)),
        (10, 4, (256, 144)),
    ],
)
def test_grid_is_about_square(episodes, columns, size):
    grid = Grid(episodes, 64, 48)
    assert (grid.columns, grid.size) == (columns, size)
    frame = grid.frame([cell(10 * i + 10) for i in range(episodes)], [False] * episodes)
    assert frame.shape == (size[1], size[0], 3)
    for i in range(episodes):
        row, column = i // columns, i % columns
        part = frame[48 * row : 48 * (row + 1), 64 * column : 64 * (column + 1)]
        assert (part == 10 * i + 10).all()


def test_grid_counts_successes_in_its_titles():
    grid = Grid(2, 320, 240, ("before", "after"))
    width, height = grid.size
    band = height - 240
    assert (width, width % 2, height % 2) == (4 * 320 + GAP, 0, 0)
    pictures = [cell(value, 320, 240) for value in (10, 20, 30, 40)]
    frame = grid.frame(pictures, [True, False, True, True])
    for left, value in ((0, 10), (320, 20), (640 + GAP, 30), (960 + GAP, 40)):
        assert (frame[band:, left : left + 320] == value).all()
    assert (frame[:, 640 : 640 + GAP] == 0).all()
    fewer = grid.frame(pictures, [False, False, True, True])
    changed = (frame != fewer).any(axis=2)
    assert changed[:band, 320:640].any()  # the count of the first title
    changed[:band, 320:640] = False
    assert not changed.any()


def test_grid_keeps_the_end_of_a_long_title():
    one = Grid(1, 320, 240, ("runs/" + "x" * 200 + "/1_can", "b"))
    other = Grid(1, 320, 240, ("runs/" + "y" * 3 + "x" * 200 + "/1_can", "b"))
    frames = [grid.frame([cell(0, 320, 240)] * 2, [False, False]) for grid in (one, other)]
    np.testing.assert_array_equal(*frames)
    band = one.size[1] - 240
    lit = np.flatnonzero((frames[0][:band, :320] > 100).any(axis=(0, 2)))
    assert np.diff(lit).max() >= band // 4  # a space between the title and the count


def test_grid_refuses_frames_that_browsers_cannot_play():
    with pytest.raises(
        ValueError, match="100 episodes of 480 x 360 pixels make frames of 4800 x 3600"
    ):
        Grid(100, 480, 360)


@pytest.mark.parametrize("width", [320, 480, 640])
def test_text_size_of_every_task_fits_and_can_be_read(width):
    for task in TASKS:
        text = f"{task}   seed 10000000   20.00 s"
        size = text_size(width, text)
        assert size >= 10 * width // 320 - 3
        font = ImageFont.load_default(size)
        assert font.getlength(text) + font.getlength("diverged") + 3 * size <= width, (task, size)


@pytest.mark.parametrize("width", [320, 480, 640])
def test_shortened_text_fits_beside_the_outcome(width):
    name, rest = f"libero_object_0: {'pick up the soup ' * 9}", "   seed 10000000   20.00 s"
    text = shortened(name, rest, width)
    font = ImageFont.load_default(text_size(width, text))
    assert font.getlength(text) + font.getlength("diverged") <= width
    assert text.startswith("libero_object_0: pi")
    assert text.endswith(rest)
    assert shortened("lift", rest, width) == f"lift{rest}"


def test_inset_shows_each_camera_at_the_upper_right():
    seen = np.stack([np.full((4, 4, 3), shade, np.uint8) for shade in (50, 200)])
    shown = inset(np.zeros((80, 100, 3), np.uint8), seen)
    assert (shown[:20, 80:] == 200).all()
    assert (shown[:20, 58:78] == 50).all()
    assert not shown[:20, 78:80].any()
    assert not shown[20:].any()


def test_inset_leaves_out_what_does_not_fit():
    seen = np.full((3, 4, 4, 3), 9, np.uint8)
    assert inset(np.zeros((80, 45, 3), np.uint8), seen)[:20].any(axis=(0, 2)).sum() == 40
