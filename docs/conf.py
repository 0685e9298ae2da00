"""Sphinx: the documentation, with the reference taken from docstrings and from the comments of configs/."""

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from configs.commandline import help_text  # noqa: E402

project = "reconverge"
author = "reconverge contributors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.mathjax"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
html_theme = "furo"
html_title = "reconverge"
html_show_sourcelink = False
exclude_patterns = ["_build"]
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_default_options = {"members": True, "show-inheritance": False}
autodoc_preserve_defaults = True
autodoc_inherit_docstrings = False

ENTRY_POINTS = {
    "train": "policy.train",
    "evaluate": "policy.evaluate",
    "collect": "tools.collect",
    "check_store": "tools.check_store",
    "convert": "tools.convert",
    "export_video": "tools.export_video",
    "export": "tools.export",
    "serve": "policy.serve",
}


def write_options(_) -> None:
    """One page with what `--help` prints of every entry point."""
    lines = ["# Options", "", "As `--help` prints them; every option has its default.", ""]
    for name, module in ENTRY_POINTS.items():
        lines += [f"## {module}", "", "```text", help_text(name), "```", ""]
    (Path(__file__).parent / "options.md").write_text("\n".join(lines))


def as_plain_text(app, what, name, obj, options, lines) -> None:
    """Docstrings are prose with formulas, not reStructuredText: keep `|x|`, `x_` and `*` as they are written."""
    lines[:] = [
        line.replace("\\", "\\\\").replace("*", "\\*").replace("|", "\\|").replace("_ ", "\\_ ") for line in lines
    ]


def setup(app) -> None:
    app.connect("builder-inited", write_options)
    app.connect("autodoc-process-docstring", as_plain_text)
