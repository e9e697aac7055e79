"""Every block of code in docs/drop_ins.md, those of a section one after the other."""

import re
from pathlib import Path

import pytest

from tests.dropin.without_torchvision import stand_in

TEXT = (Path(__file__).parents[2] / "docs" / "drop_ins.md").read_text()
SECTIONS = {
    section.partition("\n")[0]: re.findall(r"^```python\n(.+?)^```$", section, re.M | re.S)
    for section in TEXT.split("\n## ")[1:]
}


@pytest.mark.parametrize("name", [name for name, blocks in SECTIONS.items() if blocks])
def test_a_recipe_runs(name):
    namespace = {"__name__": "recipe"}
    if name == "MultiVae":
        with stand_in():
            exec("import multivae.models", {})
    for block in SECTIONS[name]:
        exec(compile(block, name, "exec"), namespace)


def test_all_blocks_are_found():
    assert TEXT.count("```") == 2 * sum(map(len, SECTIONS.values()))
