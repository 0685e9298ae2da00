"""libmujoco for compiled functions: numba calls it directly, without the interpreter lock.

Addresses are `MjModel._address`, `MjData._address` and `array.ctypes.data`. An address is an
integer, so that one array of them names the parts of many episodes. Compiled functions are cached
on disk.
"""

from __future__ import annotations

import ctypes
import glob
import os

import llvmlite.binding as llvm
import mujoco
import numpy as np
from numba import carray, njit, types
from numba.extending import intrinsic

_LIBRARY = glob.glob(os.path.join(os.path.dirname(mujoco.__file__), "libmujoco.*"))[0]
ctypes.CDLL(_LIBRARY, mode=ctypes.RTLD_GLOBAL)
llvm.load_library_permanently(_LIBRARY)

_address = types.intp
mj_step = types.ExternalFunction("mj_step", types.void(_address, _address))
mj_step1 = types.ExternalFunction("mj_step1", types.void(_address, _address))
mj_step2 = types.ExternalFunction("mj_step2", types.void(_address, _address))
mj_forward = types.ExternalFunction("mj_forward", types.void(_address, _address))
mj_jac_site = types.ExternalFunction(
    "mj_jacSite", types.void(_address, _address, _address, _address, types.int32)
)
mj_full_m = types.ExternalFunction("mj_fullM", types.void(_address, _address, _address))

WARNINGS = int(mujoco.mjtWarning.mjNWARNING)
BAD_STATES = tuple(
    int(getattr(mujoco.mjtWarning, f"mjWARN_BAD{name}")) for name in ("QPOS", "QVEL", "QACC")
)


@njit(cache=True, nogil=True)
def failed(warnings, qpos):
    """Tell if MuJoCo found a bad state (it then resets the data itself) or a joint position is not
    finite.

    `warnings` is `MjData.warning.number`.
    """
    for kind in BAD_STATES:
        if warnings[kind] > 0:
            return True
    return not np.isfinite(qpos).all()


@intrinsic
def _pointer(_, address):
    """Turn an address into a pointer, for `carray`."""

    def convert(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.voidptr(types.intp), convert


@njit(cache=True, nogil=True)
def doubles(address, count):
    """Return the float64 [count] that lie at an address: a view, good while their owner lives."""
    return carray(_pointer(address), count, np.float64)


@njit(cache=True, nogil=True)
def warning_counts(address):
    """Return `MjData.warning.number`, whose first number lies at an address and each next one 8
    bytes further.
    """
    return carray(_pointer(address), 2 * WARNINGS - 1, np.int32)[::2]
