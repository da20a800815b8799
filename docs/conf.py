"""Configuration of the documentation site: Sphinx, offline, every warning an error (make docs)."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "site"))
sys.path.insert(0, str(HERE.parent / "src"))

from cl2cm import __version__  # noqa: E402 - the path to it is set above

project = "cl2cm"
author = "The cl2cm developers"
copyright = f"2026, {author}. Apache-2.0"  # noqa: A001 - the name that Sphinx reads
release = version = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "mathml",
    "reference",
]
exclude_patterns = ["site", "build", "images/take.py"]

myst_enable_extensions = ["dollarmath", "fieldlist"]
myst_heading_anchors = 4  # links such as search.md#what-a-match-means are checked
myst_dmath_double_inline = False

html_theme = "furo"
html_title = f"cl2cm {__version__}"
html_static_path = ["site/static"]
html_css_files = ["site.css"]
html_favicon = "../src/cl2cm/serve/static/icon.svg"
html_domain_indices = False
html_show_sourcelink = False
html_copy_source = False
html_math_renderer = "mathml"
html_last_updated_fmt = None  # equal sources give equal pages
smartquotes = False  # quotation marks stay as they are written
highlight_language = "text"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = False
napoleon_use_admonition_for_examples = False
napoleon_use_ivar = True
