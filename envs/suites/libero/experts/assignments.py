"""Which expert does which of LIBERO's tasks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import pi

from reconverge.envs.suites.libero.experts.boxes import HANDLE, Box, Spot
from reconverge.envs.suites.libero.experts.fixtures import (
    TURN,
    AsideExpert,
    DrawerExpert,
    HandleExpert,
    KnobExpert,
    OpenedExpert,
    OpenExpert,
    PushExpert,
    RoomExpert,
    ShutExpert,
)
from reconverge.envs.suites.libero.experts.microwave import (
    MugExpert,
    PushInExpert,
    ShutDoorExpert,
)
from reconverge.envs.suites.libero.experts.placing import (
    SIDE,
    DropExpert,
    FromAboveIntoExpert,
    FromAboveOntoExpert,
    Grasping,
    InsideExpert,
    IntoExpert,
    OntoExpert,
    OverExpert,
    PlaceExpert,
    SlotExpert,
    grasp_book,
    grasp_far,
    grasp_mug,
    grasp_neck,
    grasp_pot,
    grasp_rim,
    grasp_top,
)
from reconverge.envs.suites.libero.experts.turns import InTurn
from reconverge.envs.suites.robosuite.motion import Vector
from reconverge.envs.task import Expert, Landmarks

# where a bottle is put on a rack, in the frame of its region: on the board, beside the ridge
RACK = (-0.05, 0.0, 0.035)
TILTED = (-0.05, 0.031, 0.0162)  # the same in the frame of the rack
BURNER = (0.0, 0.0, 0.022)  # where a thing stands on a stove, in the stove's frame from its region
BEHIND, AHEAD = (0.05, 0.0, 0.022), (-0.045, 0.0, 0.022)  # where two do
# Of a caddy: the axis across a book's boards, the distance along it at which a book is lowered, and
# the way from the region's middle to the middle between the walls; metres.
COMPARTMENTS = {
    "front": (0, 0.005, (-0.0035, 0.0035, 0.0)),
    "back": (0, 0.005, (-0.0015, 0.0035, 0.0)),
    "left": (1, 0.02, (-0.006, 0.0, 0.0)),
    "right": (1, 0.02, (-0.006, 0.0, 0.0)),
}
FRONT = 0.014  # before the middle of a drawer, away from the cabinet: where a thing is put, metres
FARTHEST_FRONT = 0.03  # the same in a drawer that is not wide open
# where a bowl is not in the way, world frame, metres: between the bottle, the cheese and the stove;
# before the cabinet
FREE, AWAY = (-0.13, 0.055, 0.9), (-0.08, 0.12, 0.9)
BEFORE_MUG = "porcelain_mug_front_region"
RIGHT_OF_PLATE = "plate_right_region"
RIGHT_OF_CADDY = "study_table_desk_caddy_right_region"


# What follows is called with a task's objects of interest, in the order of its file, and landmarks;
# what comes before these is set by the table below.


def put(
    expert: type[PlaceExpert],
    grasping: Grasping,
    thing: str,
    place: str,
    landmarks: Landmarks,
    part: str = "",
    at: Vector = (0.0, 0.0, 0.0),
) -> PlaceExpert:
    """To a place, or a part of it; `at` is counted from its middle."""
    return expert(Box(landmarks, thing), Box(landmarks, place, part).at(at), grasping)


def beside(
    grasping: Grasping,
    region: str,
    thing: str,
    other: str,
    landmarks: Landmarks,
    expert: type[PlaceExpert] = OntoExpert,
) -> PlaceExpert:
    """To a region of the table beside another thing."""
    return expert(Box(landmarks, thing), Spot(landmarks, region), grasping)


def before_mug(other: str, mug: str, landmarks: Landmarks) -> PlaceExpert:
    """To the region before another mug."""
    return beside(grasp_mug, f"kitchen_table_{BEFORE_MUG}", mug, other, landmarks)


def slot(compartment: str, book: str, caddy: str, landmarks: Landmarks) -> Expert:
    place = Box(landmarks, caddy, f"_{compartment}_contain_region")
    side, within, between = COMPARTMENTS[compartment]
    return SlotExpert(Box(landmarks, book), place.at(between), Box(landmarks, caddy), side, within)


def drawer(
    expert: type[HandleExpert], level: str, cabinet: str, landmarks: Landmarks
) -> HandleExpert:
    return expert(_drawer(level, cabinet, landmarks, HANDLE))


def inside(
    grasping: Grasping, level: str, thing: str, cabinet: str, landmarks: Landmarks
) -> PlaceExpert:
    place = _drawer(level, cabinet, landmarks)
    return InsideExpert(Box(landmarks, thing), place.along(-FRONT), grasping)


def _drawer(level: str, cabinet: str, landmarks: Landmarks, part: str = "") -> Box:
    return Box(landmarks, cabinet, f"_{level}_region{part}", f"{cabinet}_{level}_level")


def inside_shut(
    grasping: Grasping, level: str, thing: str, cabinet: str, landmarks: Landmarks
) -> Expert:
    return InTurn(
        inside(grasping, level, thing, cabinet, landmarks),
        ShutExpert(_drawer(level, cabinet, landmarks, HANDLE)),
    )


def room_inside_shut(level: str, thing: str, cabinet: str, landmarks: Landmarks) -> Expert:
    """The thing lies before the open drawer, where the palm does not fit."""
    moved, handle = Box(landmarks, thing), _drawer(level, cabinet, landmarks, HANDLE)
    place = _drawer(level, cabinet, landmarks).along(-FARTHEST_FRONT)
    return InTurn(
        RoomExpert(handle, moved), DropExpert(moved, place, grasp_top), ShutExpert(handle)
    )


def shut_bowl(cabinet: str, bowl: str, landmarks: Landmarks) -> Expert:
    return InTurn(
        ShutExpert(_drawer("top", cabinet, landmarks, HANDLE)),
        bowl_onto(bowl, cabinet, landmarks, part=TOP),
    )


def two_into(one: str, other: str, basket: str, landmarks: Landmarks) -> Expert:
    return InTurn(into(one, basket, landmarks), into(other, basket, landmarks))


def two_between(one: str, other: str, basket: str, landmarks: Landmarks) -> Expert:
    """Cartons stand beside the first, towards the robot."""
    return InTurn(far_into(one, basket, landmarks), into(other, basket, landmarks))


def two_mugs(left: str, right: str, one: str, other: str, landmarks: Landmarks) -> Expert:
    return InTurn(mug_onto(other, left, landmarks), mug_onto(one, right, landmarks))


def mug_and_box(plate: str, box: str, mug: str, landmarks: Landmarks) -> Expert:
    return InTurn(
        mug_onto(mug, plate, landmarks),
        beside(grasp_top, f"living_room_table_{RIGHT_OF_PLATE}", box, plate, landmarks),
    )


def into_microwave(mug: str, microwave: str, landmarks: Landmarks) -> Expert:
    moved = Box(landmarks, mug)
    return InTurn(
        MugExpert(moved, microwave),
        PushInExpert(moved, microwave),
        ShutDoorExpert(microwave, landmarks),
    )


def knob_and_pot(pot: str, stove: str, landmarks: Landmarks) -> Expert:
    return InTurn(knob(stove, landmarks), pot_onto(pot, stove, landmarks))


def two_pots(one: str, other: str, stove: str, landmarks: Landmarks) -> Expert:
    return InTurn(
        pot_onto(one, stove, landmarks, at=BEHIND), pot_onto(other, stove, landmarks, at=AHEAD)
    )


def open_inside_region(bowl: str, region: str, landmarks: Landmarks) -> Expert:
    place = Box(landmarks, region).at((0.0, -FRONT, 0.0))
    handle, joint = Box(landmarks, region, HANDLE), region.replace("_region", "_level")
    return _open_inside(Box(landmarks, bowl), Spot(landmarks, "").at(FREE), handle, place, joint)


def open_inside_top(cabinet: str, bowl: str, landmarks: Landmarks) -> Expert:
    place, handle = (_drawer("top", cabinet, landmarks, part) for part in ("", HANDLE))
    free, joint = Spot(landmarks, "").at(AWAY), f"{cabinet}_top_level"
    return _open_inside(Box(landmarks, bowl), free, handle, place.along(-FRONT), joint)


def _open_inside(bowl: Box, free: Box, handle: Box, place: Box, joint: str) -> Expert:
    """The bowl stands below the drawer that is to be opened: it is put aside first."""
    return InTurn(
        AsideExpert(bowl, free, grasp_near, joint),
        OpenExpert(handle, joint),
        OpenedExpert(bowl, place, partial(grasp_rim, side=pi / 2), joint),
    )


def open_middle(region: str, landmarks: Landmarks) -> Expert:
    return DrawerExpert(Box(landmarks, region, HANDLE))


TOP, COOK = "_top_side", "_cook_region"  # of a cabinet, of a stove
into = partial(put, IntoExpert, grasp_top)
far_into = partial(put, FromAboveIntoExpert, grasp_far)
mug_onto = partial(put, OntoExpert, grasp_mug)
bottle_onto = partial(put, OntoExpert, grasp_neck)
bowl_onto = partial(put, OntoExpert, grasp_rim)
# the nearest turn of the wrist: the arm stays away from the cabinet's open drawer
grasp_near = partial(grasp_rim, side=-pi / 2)
near_onto = partial(put, FromAboveOntoExpert, grasp_near)  # a bottle stands beside it
grasp_left = partial(grasp_rim, side=-SIDE)
pot_onto = partial(put, OntoExpert, grasp_pot, part=COOK, at=BURNER)
knob = partial(KnobExpert, "flat_stove_1_button")

BASKET, BOWL, MUG, KNOB = ("basket", into), ("bowl", bowl_onto), ("mug", mug_onto), ("knob", knob)
Choice = tuple[str, Callable[..., Expert]]
# Of suites and tasks: the expert's name in stores, and what makes it.
CHOICES: dict[str, dict[int, Choice]] = {
    "libero_object": dict.fromkeys(range(10), BASKET),
    "libero_spatial": dict.fromkeys(range(10), BOWL),
    "libero_goal": {
        **dict.fromkeys((1, 4, 8), BOWL),  # on the stove, the cabinet, the plate
        0: ("drawer", open_middle),
        2: ("bottle", bottle_onto),  # on the cabinet
        3: ("open_inside", open_inside_region),
        5: ("push", PushExpert),  # the plate
        6: BASKET,  # cream cheese into the bowl
        7: KNOB,
        9: ("bottle", partial(bottle_onto, at=RACK)),
    },
    "libero_10": {
        **dict.fromkeys((0, 7), ("baskets", two_into)),
        1: ("baskets_between", two_between),
        2: ("knob_pot", knob_and_pot),
        3: ("inside_shut", partial(inside_shut, grasp_left, "bottom")),
        4: ("mugs", two_mugs),
        5: ("slot", partial(slot, "back")),
        6: ("mug_box", mug_and_box),
        8: ("pots", two_pots),
        9: ("microwave", into_microwave),
    },
    "libero_90": {
        **dict.fromkeys((0, 28), ("shut", partial(drawer, ShutExpert, "top"))),
        1: ("shut_bowl", shut_bowl),
        2: ("inside", partial(inside, grasp_rim, "top")),
        **dict.fromkeys((3, 4), ("inside_shut", partial(inside_shut, grasp_top, "top"))),
        5: ("room_inside_shut", partial(room_inside_shut, "top")),
        **dict.fromkeys((7, 11), ("drawer", partial(drawer, DrawerExpert, "top"))),
        8: ("open_inside", open_inside_top),
        **dict.fromkeys((9, 12, 13, 14, 16, 17), BOWL),
        **dict.fromkeys((10, 15, 25, 43), ("bowl", partial(bowl_onto, part=TOP))),
        **dict.fromkeys((19, 38), ("pot", pot_onto)),
        **dict.fromkeys((20, 44), KNOB),
        22: ("shut", partial(drawer, ShutExpert, "bottom")),
        24: ("inside", partial(inside, grasp_left, "bottom")),
        27: ("bottle", partial(bottle_onto, part="_top_region", at=TILTED)),
        29: ("inside", partial(inside, grasp_near, "top")),
        30: ("bowl_between", near_onto),
        31: ("bowl_between", partial(near_onto, part=TOP)),
        33: ("shut_door", ShutDoorExpert),  # of the microwave
        34: ("mug", before_mug),
        37: ("bowl", partial(beside, grasp_rim, f"kitchen_table_{RIGHT_OF_PLATE}")),
        39: ("knob", partial(knob, ahead=-TURN)),
        **dict.fromkeys((*range(46, 60), 61), BASKET),  # a basket, a tray
        60: BOWL,
        **dict.fromkeys((65, 66, 67, 68, 71, 72), MUG),
        69: ("box", partial(beside, grasp_top, "living_room_table_plate_left_region")),
        70: ("box", partial(beside, grasp_top, f"living_room_table_{RIGHT_OF_PLATE}")),
        **dict.fromkeys((73, 78, 81), ("slot", partial(slot, "front"))),
        **dict.fromkeys((74, 79, 82), ("slot", partial(slot, "left"))),
        **dict.fromkeys((75, 80, 83), ("slot", partial(slot, "right"))),
        77: ("slot", partial(slot, "back")),
        85: ("mug", partial(beside, grasp_mug, RIGHT_OF_CADDY, expert=OverExpert)),
        87: ("book", partial(put, OntoExpert, grasp_book, part=TOP)),  # on the shelf
    },
}
EXPERTS = {f"{suite}_{i}": each for suite, found in CHOICES.items() for i, each in found.items()}
