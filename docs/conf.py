"""Configuration of Sphinx: `scripts/docs` builds the manual from these pages and from the docstrings."""

import progan

project = "progan"
author = "the authors of progan"
version = release = progan.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

html_theme = "furo"
html_title = f"progan {version}"
html_static_path: list[str] = []
exclude_patterns = ["_build", "measured", "**/*.ipynb_checkpoints"]

# Headings can be linked to; pages are Markdown as hosting sites show it, too.
myst_heading_anchors = 3
myst_enable_extensions = ["deflist"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
default_role = "code"  # docstrings quote names as Markdown does
