"""Types and names of arrays on their way into a store."""

import h5py
import numpy as np
import pytest

from reconverge.datasets.formats.arrays import (
    ConversionError,
    Field,
    leaving_out,
    refuse,
    widen,
    wider_type,
)


@pytest.mark.parametrize(
    ("kind", "real", "whole"),
    [
        ("bool", "float32", "bool"),
        ("uint8", "float32", "uint8"),
        ("int8", "float32", "int32"),
        ("int16", "float32", "int32"),
        ("uint16", "float32", "int32"),
        ("int32", "float64", "int32"),
        ("uint32", "float64", "int64"),
        ("int64", "float64", "int64"),
        ("uint64", "float64", "int64"),
        ("float16", "float32", "float32"),
        ("float32", "float32", "float32"),
        (">f4", "float32", "float32"),
        ("float64", "float64", "float64"),
        ("longdouble", "float64", "float64"),
    ],
)
def test_wider_type_holds_every_number(kind, real, whole):
    dtype = np.dtype(kind)
    assert (wider_type(dtype, True), wider_type(dtype, False)) == (real, whole)
    limits = {"b": lambda: [False, True], "f": lambda: np.finfo(dtype.newbyteorder("=")).max}
    most = limits.get(dtype.kind, lambda: np.iinfo(dtype).max)()
    values = np.array(most, dtype)
    if dtype.itemsize < 8:
        for wider in (real, whole):
            assert (widen("x", values, wider).astype(dtype) == values).all()


@pytest.mark.parametrize(
    ("value", "kind", "wider"),
    [
        (2**53 + 1, "int64", "float64"),
        (-(2**53) - 1, "int64", "float64"),
        (2**64 - 1, "uint64", "float64"),
        (2**63, "uint64", "int64"),
        (np.longdouble(1) + np.finfo(np.longdouble).eps, "longdouble", "float64"),
        (0.5, "float32", "bool"),
        (2, "uint8", "bool"),
    ],
)
def test_widen_refuses_what_would_change(value, kind, wider):
    with pytest.raises(ConversionError, match=rf"here\[1, 0\] is .*, which no {wider} holds"):
        widen("here", np.array([[0], [value]], kind), wider)


def test_widen_keeps_the_largest_whole_numbers():
    whole = np.array([2**53, -(2**53)])
    assert widen("x", whole, "float64").astype(np.int64).tolist() == whole.tolist()
    assert widen("x", np.array([2**63 - 1], "uint64"), "int64").tolist() == [2**63 - 1]
    assert widen("x", np.array([0, 1], "uint8"), "bool").tolist() == [False, True]


@pytest.mark.parametrize(
    ("kind", "row", "obstacle"),
    [
        ("uint8", (96, 96, 3), "pixels"),
        ("uint8", (3, 84, 84), "pixels"),
        ("uint8", (8, 8), "pixels"),
        ("float32", (8, 8, 1), "pixels"),
        ("float32", (5, 4, 4), ""),  # poses of five objects
        ("float32", (1024, 3), ""),  # points
        ("uint8", (4,), ""),
        ("S5", (1,), "text"),
        ("O", (), "text"),
        (h5py.vlen_dtype("i4"), (), "lists of different lengths"),
        ("complex64", (2,), "of type complex64"),
        ("float32", (0,), "0 numbers a step"),
    ],
)
def test_obstacle_tells_pictures_and_text_from_numbers(kind, row, obstacle):
    assert Field("x", np.dtype(kind), row).obstacle == obstacle


def test_refuse_names_all_arrays_and_the_option_for_all():
    obstacles = {"top": "pixels", "note": "text", "a b": "pixels"}
    wanted = (
        "here: cannot convert top, a b (pixels); note (text); add leave_out=[wrist,top,note,'a b']"
    )
    with pytest.raises(ConversionError) as raised:
        refuse("here", obstacles, ["wrist"])
    assert str(raised.value) == wanted
    with pytest.raises(ConversionError, match="actions must be numbers"):
        refuse("here", {"action": "text"})
    refuse("here", {})


def test_leaving_out_quotes_what_the_command_line_would_change():
    assert leaving_out(["a.b", "1e5", "x y"]) == "leave_out=[a.b,'1e5','x y']"
