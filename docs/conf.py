"""How Sphinx builds the site: `make docs`. Nothing is fetched, and every warning is an error."""

import os
import shutil
import sys
from importlib.metadata import version as installed
from pathlib import Path

HERE = Path(__file__).resolve().parent
os.environ.setdefault("JAX_PLATFORMS", "cpu")
sys.path[:0] = [str(HERE), str(HERE.parent)]

import published  # noqa: E402
import reference  # noqa: E402

project = "toymodel"
author = "The toymodel developers"
copyright = author
release = installed("toymodel")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "mathml", "reference"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3
myst_fence_as_directive = ["math"]  # as GitHub has it

# Docstrings are written with single backticks, shapes in jaxtyping.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "signature"
maximum_signature_line_length = 100
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_attr_annotations = False

html_theme = "furo"
html_title = f"toymodel {release}"
html_math_renderer = "mathml"
html_copy_source = False
html_show_sphinx = False
html_static_path = ["static"]
html_css_files = ["site.css"]
html_extra_path = ["entanglement.html"]  # as it is: it opens from the disk, too

# Pages that come from elsewhere in the repository, anew each time.
made = HERE / "made"
shutil.rmtree(made, ignore_errors=True)
made.mkdir()
published.write(made)
reference.write(made)
