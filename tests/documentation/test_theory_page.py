"""The figures and the numbers of docs/theory.md are those that `make theory` writes."""

import json
import re
from functools import reduce
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "theory.md").read_text()
IMAGES = ROOT / "docs" / "images" / "theory"
NUMBERS = json.loads((ROOT / "docs" / "figures" / "theory.json").read_text())
SCRIPTS = {path.stem for path in (ROOT / "examples" / "theory").glob("*.py")}


def test_its_numbers_are_there():
    """The build of the site puts them in; one that stood in the text itself could go stale."""
    named = re.findall(r"\{theory\}`([^`:]+):([^`]+)`", PAGE)
    assert len(named) > 40
    for path, form in named:
        value = reduce(lambda part, key: part[key], path.split("."), NUMBERS)
        assert isinstance(value, int | float | str), path
        assert format(value, form)


def test_each_figure_is_shown_and_small():
    shown = re.findall(r"!\[[^\]]+\]\(images/theory/([a-z]+\.png)\)", PAGE)
    assert sorted(shown) == sorted(path.name for path in IMAGES.iterdir())
    assert sum(path.stat().st_size for path in IMAGES.iterdir()) < 600_000


def test_each_script_is_run_and_named():
    (line,) = re.findall(r"^THEORY := (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(line.split()) == SCRIPTS - {"chapter", "nonlinear"} == set(NUMBERS)
    assert set(re.findall(r"`([a-z]+)\.py`", PAGE)) == SCRIPTS - {"chapter"}
