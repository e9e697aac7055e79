"""The tables of docs/kl_weight.md at a smaller size: what the page says of them holds."""

import importlib.util
from pathlib import Path

import pytest

pytestmark = pytest.mark.of_samples

ROOT = Path(__file__).parents[2]
EPOCHS = 16


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("kl_weight", ROOT / "examples" / "kl_weight.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def flat(digits):
    return digits.train.flatten(1), digits.test.flatten(1)


def test_what_controls_the_kl(example, flat):
    rows = {name.split(",")[0]: row for name, *row in example.first_table(EPOCHS, *flat)}
    nll, kl, bound, active = ({name: row[i] for name, row in rows.items()} for i in range(4))
    plain, means, mixed, weak = list(rows)[:4]
    assert kl[mixed] < 0.05 < kl[means] < kl[plain] < kl[weak]
    assert nll[weak] < nll[plain] < nll[means]
    assert bound[plain] == min(bound[plain], bound[means], bound[mixed], bound[weak])
    assert active[mixed] == 0
    assert kl["capacity 5 nats"] == pytest.approx(5.0, abs=0.5)
    assert kl["free bits"] > kl[plain]


def test_what_the_decoders_variance_does(example, flat):
    rows = [row for _, *row in example.second_table(EPOCHS, *flat)]
    square, kl, bound, active = zip(*rows, strict=True)
    assert max(kl[:2]) < 0.1
    assert max(square[3:]) < 0.5 * min(square[:2])
    assert bound[4] < bound[2] < bound[1] < bound[0]
    assert active[0] == 0
    assert active[4] > 5


def test_a_table_is_markdown(example):
    assert example.shown(["loss", "nll", "active"], [["beta 1", 1.23456, 7]]) == (
        "| loss | nll | active |\n| --- | ---: | ---: |\n| beta 1 | 1.235 | 7 |"
    )


def test_the_page_has_its_rows(example):
    page = (ROOT / "docs" / "kl_weight.md").read_text()
    for name in example.controls(80, 64):
        assert f"| {name} | " in page
