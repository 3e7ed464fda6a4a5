"""The site's settings; `python -m restyle_lib.reporting.site` gathers its sources and builds it."""

from restyle_lib.reporting.site import docstring_as_markup, math_as_mathml

project = "The ReStyle companion"
html_title = project
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
html_theme = "furo"
html_copy_source = False

nb_execution_mode = "off"  # notebooks are shown as `make reproduce` ran them, or without their outputs
nb_ipywidgets_js = {}  # nothing is fetched while a page is read
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
math_renderer = "mathml"
html_math_renderer = "mathml"

default_role = "code"
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "signature"
python_use_unqualified_type_names = True


def setup(app) -> None:
    app.connect("autodoc-process-docstring", docstring_as_markup)
    app.add_html_math_renderer("mathml", *math_as_mathml())
