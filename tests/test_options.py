"""Options as dataclasses: ranges, choices, names and help."""

import math
from dataclasses import dataclass, field

import pytest

from reconverge.errors import ReconvergeError
from reconverge.options import check_options, choose, help_lines, option, option_names


@dataclass(frozen=True)
class Inner:
    """A group within."""

    name: str = "inner"
    rate: float = option(0.5, "of the inside", above=0)


@dataclass(frozen=True)
class Outer:
    """Every kind of option."""

    count: int = option(3, "how many", at_least=1)
    share: float = option(0.25, "of one", at_least=0, below=1)
    angle: float = option(0.0, "in radians", above=-1, at_most=1)
    free: float = option(0.0, "any number")
    radius: float | None = option(None, "or nothing", at_least=0)
    kind: str = option("plain", "plain | odd", choices=("plain", "odd"))
    maybe: str | None = option(None, "or nothing", choices=("plain", "odd"))
    flag: bool = option(True, "switch", at_least=5)
    levels: list[int] = option([1, 2], "of a list")
    inner: Inner = option(Inner(), "a group")
    plain: float = 1.0
    chosen: Inner = field(default_factory=Inner)


def test_option_gives_the_default_and_keeps_the_meaning():
    first, second = Outer(), Outer()
    assert (first.count, first.levels, first.inner) == (3, [1, 2], Inner())
    assert first.levels is second.levels
    assert Outer.__dataclass_fields__["count"].metadata["meaning"] == "how many"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"count": 0}, "count=0: must be at least 1"),
        ({"share": -0.1}, "share=-0.1: must be at least 0 and below 1"),
        ({"share": 1.0}, "share=1.0: must be at least 0 and below 1"),
        ({"angle": -1.0}, "angle=-1.0: must be above -1 and at most 1"),
        ({"angle": 1.5}, "angle=1.5: must be above -1 and at most 1"),
        ({"angle": math.nan}, "angle=nan: must be above -1 and at most 1"),
        ({"free": math.nan}, "free=nan: must be finite"),
        ({"free": -math.inf}, "free=-inf: must be finite"),
        ({"radius": -1.0}, "radius=-1.0: must be at least 0"),
        ({"radius": math.inf}, "radius=inf: must be finite and at least 0"),
        ({"plain": math.inf}, "plain=inf: must be finite"),
        ({"kind": "ode"}, "unknown kind 'ode': choose one of plain, odd; did you mean 'odd'?"),
        ({"maybe": "x"}, "unknown maybe 'x': choose one of plain, odd"),
        ({"inner": Inner(rate=0.0)}, "inner.rate=0.0: must be above 0"),
        ({"inner": Inner(rate=math.nan)}, "inner.rate=nan: must be above 0"),
        ({"chosen": Inner(rate=-2.0)}, "chosen.rate=-2.0: must be above 0"),
    ],
)
def test_check_options_refuses_each_kind_of_bad_value(changes, said):
    with pytest.raises(ReconvergeError) as caught:
        check_options(Outer(**changes))
    assert str(caught.value) == said


def test_check_options_names_the_group_of_an_option():
    with pytest.raises(ReconvergeError, match=r"^method\.inner\.rate=0: must be above 0$"):
        check_options(Outer(inner=Inner(rate=0)), "method.")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"count": 1, "share": 0, "angle": 1, "radius": 0},
        {"radius": 2.5, "maybe": "odd", "flag": False},
        {"inner": Inner(rate=math.inf)},  # only `above` bounds it
    ],
)
def test_check_options_takes_the_ends_of_every_range(changes):
    check_options(Outer(**changes))


def test_choose_builds_the_row_that_the_name_says():
    table = {"inner": Inner, "outer": Outer}
    assert choose("kind", table, {"name": "inner", "rate": 2.0}) == Inner(rate=2.0)
    with pytest.raises(ReconvergeError, match=r"unknown kind 'iner'.*did you mean 'inner'"):
        choose("kind", table, {"name": "iner"})
    with pytest.raises(ReconvergeError, match=r"unknown kind 'None': choose one of inner, outer"):
        choose("kind", table, {"rate": 2.0})
    with pytest.raises(
        ReconvergeError, match=r"unknown option of kind 'inner' 'rat'.*did you mean 'rate'"
    ):
        choose("kind", table, {"name": "inner", "rat": 2.0})


def test_option_names_are_dotted_and_include_groups():
    assert list(option_names(Inner(), "x.")) == ["x.name", "x.rate"]
    assert {"count", "inner", "inner.rate", "chosen.name"} <= set(option_names(Outer()))


def test_help_lines_show_default_and_meaning_of_every_option():
    assert help_lines(Outer()) == [
        "count: 3  # how many",
        "share: 0.25  # of one",
        "angle: 0.0  # in radians",
        "free: 0.0  # any number",
        "radius: null  # or nothing",
        "kind: plain  # plain | odd",
        "maybe: null  # or nothing",
        "flag: true  # switch",
        "levels: [1, 2]  # of a list",
        "inner:  # a group",
        "  rate: 0.5  # of the inside",
    ]
