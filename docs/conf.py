"""Sphinx: the documentation, with the reference from docstrings and the options as `--help` has
them.
"""

from importlib import import_module
from pathlib import Path

from reconverge.configs.commandline import help_text
from reconverge.policy.images.picture_options import IMAGES
from reconverge.policy.runs.configuration import TRAIN

project = "reconverge"
author = "reconverge contributors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.mathjax"]
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "reconverge"
html_show_sourcelink = False
exclude_patterns = ["_build"]
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_default_options = {"members": True, "show-inheritance": False}
autodoc_preserve_defaults = True
autodoc_inherit_docstrings = False
autodoc_mock_imports = ["onnxruntime"]  # of an extra

FRONT_DOORS = (
    "policy.evaluate",
    "policy.serve",
    "tools.collect",
    "tools.convert",
    "tools.check_store",
    "tools.export",
    "tools.export_video",
)
"""Modules below `reconverge` whose COMMAND holds their options."""
TRAINING = {"policy.train": TRAIN, "tools.images": IMAGES}


def write_options(_) -> None:
    """Write options.md, a page with what `--help` prints for every front door."""
    commands = {name: import_module(f"reconverge.{name}").COMMAND for name in FRONT_DOORS}
    lines = ["# Options", "", "What `--help` prints. Every option has a default.", ""]
    for name, command in (TRAINING | commands).items():
        lines += [f"## {name}", "", "```text", help_text(command), "```", ""]
    (Path(__file__).parent / "options.md").write_text("\n".join(lines))


def as_plain_text(app, what, name, obj, options, lines) -> None:
    """Escape what reStructuredText would read as markup: docstrings are prose with formulas, so
    keep `|x|`, `x_` and `*` as they are written.
    """
    lines[:] = [
        line.replace("\\", "\\\\").replace("*", "\\*").replace("|", "\\|").replace("_ ", "\\_ ")
        for line in lines
    ]


def setup(app) -> None:
    app.connect("builder-inited", write_options)
    app.connect("autodoc-process-docstring", as_plain_text)
