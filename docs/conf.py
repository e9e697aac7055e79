"""The documentation site: `make docs` builds it into build/site."""

import re
import sys
from pathlib import Path

from docutils import nodes

import vae_fast

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS / "_ext"))

project = "vae_fast"
author = "the vae_fast authors"
copyright = f"{author}, BSD 3-clause licence"
version = release = vae_fast.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx-mathjax-offline",  # MathJax comes from this package: no CDN
    "sphinx_copybutton",
    "sphinx_llm.txt",
    "pictures",
    "plots",
    "theory",
]
templates_path = ["_templates"]

# ---- Markdown ----
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

# ---- the API, from the docstrings ----
autosummary_ignore_module_all = False
autodoc_typehints = "none"  # the signature says names and defaults, the text what they are
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
default_role = "code"  # single backticks, as in Markdown
add_module_names = False
toc_object_entries_show_parents = "hide"
nitpicky = True
# Of torch nothing is known without its inventory, which would be fetched.
nitpick_ignore_regex = [("py:.*", r"torch\..*|Tensor")]
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# ---- HTML ----
html_theme = "pydata_sphinx_theme"
html_title = "vae_fast"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_context = {"default_mode": "auto"}
_WITHOUT_A_SECTION = ("index", "mathematics", "theory", "performance")
html_sidebars = {page: [] for page in _WITHOUT_A_SECTION}
html_theme_options = {
    "navbar_center": ["navbar-nav"],
    "header_links_before_dropdown": 7,
    "show_prev_next": True,
    "show_nav_level": 1,
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
    "pygments_light_style": "a11y-light",
    "pygments_dark_style": "a11y-dark",
}

# ---- llms.txt, and each page's Markdown beside it ----
llms_txt_description = vae_fast.__doc__.splitlines()[0]


def _as_markup(_app, _what, _name, _obj, _options, lines):
    """Docstrings are read by people in a terminal; what reStructuredText wants beyond that.

    (*batch, *event), |l| and c_ mean no markup, and a bare name is one of the package's.
    """
    in_example = False
    for i, line in enumerate(lines):
        in_example = line.lstrip().startswith(">>>") or (in_example and bool(line.strip()))
        if not in_example:
            parts = re.split(r"(``.+?``|`.+?`)", line)
            parts[::2] = [re.sub(r"[*|]|_(?!\w)", r"\\\g<0>", part) for part in parts[::2]]
            lines[i] = re.sub(r":func:`(\w+)`", r":func:`~vae_fast.\1`", "".join(parts))


def _as_its_text(_translator, _node):
    """Its children say it all."""


def setup(app):
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", _as_markup, priority=400)  # before napoleon
    # The asterisk of a signature, which the Markdown builder does not know.
    app.add_node(nodes.abbreviation, override=True, markdown=(_as_its_text, _as_its_text))
