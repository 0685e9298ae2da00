"""libmujoco for compiled functions: numba calls it directly, without the interpreter lock.

Addresses are `MjModel._address`, `MjData._address` and `array.ctypes.data`. Compiled functions are
cached on disk.
"""

from __future__ import annotations

import ctypes
import glob
import os

import llvmlite.binding as llvm
import mujoco
import numpy as np
from numba import njit, types

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
