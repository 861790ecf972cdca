"""The documentation site: `make docs` builds it with warnings as errors."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

from colm_vl import __version__  # noqa: E402

project = "colm-vl"
author = "the colm-vl authors"
release = version = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "docstrings", "pages", "check_site"]
exclude_patterns = ["_build", "examples"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4
highlight_language = "none"  # of blocks that name no language
suppress_warnings = ["misc.highlighting_failure"]  # TOML and JSON with placeholders such as …

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "separated"
default_role = "code"  # docstrings mark code with single backticks
python_use_unqualified_type_names = True
add_module_names = False

html_theme = "furo"
html_title = f"colm-vl {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_show_copyright = False
