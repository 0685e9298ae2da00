"""Rows that other installed packages add to the tables: tasks, methods, networks, formats."""

import sys
from importlib import import_module
from importlib.metadata import entry_points

from reconverge.errors import ReconvergeError, one_line

GROUP = "reconverge.plugins"


def load_plugins() -> None:
    """Import, once, every module that an installed package names as an entry point of GROUP.

    A module adds its rows as it is imported. ReconvergeError, with the package, for one that cannot
    be imported.
    """
    for plugin in entry_points(group=GROUP):
        if plugin.module in sys.modules:  # also one that is being imported, and asks us for a name
            continue
        try:
            import_module(plugin.module)
        except Exception as error:
            package = plugin.dist.name if plugin.dist else plugin.name
            raise ReconvergeError(
                f"the plugin {plugin.module} of {package} cannot be imported ({one_line(error)}); "
                f"mend it, or pip uninstall {package}"
            ) from error
