"""The numbers of docs/theory.md, which are those of docs/figures/theory.json.

`make theory` writes them, with the figures in docs/images/theory.
"""

import json
from functools import reduce
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxRole

NUMBERS = Path(__file__).parents[1] / "figures" / "theory.json"


class Number(SphinxRole):
    """``{theory}`PATH:FORMAT` ``: of "linear.20.gap:.3f" that number, with three decimals."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """As text."""
        self.env.note_dependency(str(NUMBERS))
        path, _, form = self.text.partition(":")
        stored = json.loads(NUMBERS.read_text())
        value = reduce(lambda part, key: part[key], path.split("."), stored)
        return [nodes.Text(format(value, form))], []


def setup(app) -> dict:
    """Called by Sphinx."""
    app.add_role("theory", Number())
    return {"parallel_read_safe": True}
