"""Every code block of the README and of the pages is run, or held against what it speaks of."""

import importlib.util
import re
import shlex
import subprocess
from pathlib import Path

import click
import pytest
import torch
from markdown_it import MarkdownIt
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

from vae_fast.cli import app
from vae_fast.cli.grouped import Device

ROOT = Path(__file__).parents[2]
# The recipes of other people's packages are run where these are installed: tests/dropin.
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES += sorted(set((ROOT / "docs").rglob("*.md")) - {ROOT / "docs" / "drop_ins.md"})
LANGUAGES = ("python", "sh", "diff", "cpp", "text")
RUN = {"quick_start.md"}  # its shell blocks train for seconds, and need nothing


def blocks(page, language=None):
    """The fenced blocks of a page; all of them, or a language's."""
    tokens = MarkdownIt().parse(page.read_text())
    return [t for t in tokens if t.type == "fence" and language in (None, t.info)]


def having(language):
    """A parameter for each page that has blocks of the language."""
    pages = [page for page in PAGES if blocks(page, language)]
    return pytest.mark.parametrize("page", pages, ids=lambda page: page.name)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_says_what_it_is(page):
    assert "code_block" not in {t.type for t in MarkdownIt().parse(page.read_text())}
    kinds = {t.info for t in blocks(page) if not t.info.startswith("{")}
    assert kinds <= set(LANGUAGES)


@having("python")
def test_python_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    document = Sybil(parsers=[PythonCodeBlockParser()]).parse(page)
    examples = list(document.examples())
    assert len(examples) == len(blocks(page, "python"))
    for example in examples:
        example.evaluate()


def commands(block):
    """The commands of a shell block: words, without comments and the environment's variables."""
    for line in block.content.splitlines():
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words = words[1:]
        if words:
            yield words


def is_there(words, targets):
    """Whether a command, its make target, its options or its module exist."""
    first, *rest = words
    if first == "vae-fast":
        command = app.get_command(None, rest[0])
        command.make_context(rest[0], rest[1:])  # raises where an option is none
        return True
    if first == "make":
        return all(word in targets or "=" in word for word in rest)
    if first == "python":
        return importlib.util.find_spec(rest[1]) if rest[0] == "-m" else (ROOT / rest[0]).exists()
    if first == "pip":
        return rest[0] == "install"
    return first in ("export", "for", "done", "nvcc", "nm")


@having("sh")
def test_commands_of_a_shell_exist(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    # What is parsed is not run: a GPU need not be there.
    monkeypatch.setattr(Device, "convert", lambda self, value, param, ctx: value)
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for block in blocks(page, "sh"):
        subprocess.run(["bash", "-n"], input=block.content, text=True, check=True)
        for words in commands(block):
            assert is_there(words, targets), words


@pytest.mark.parametrize("page", [p for p in PAGES if p.name in RUN], ids=lambda page: page.name)
def test_commands_of_a_shell_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for block in blocks(page, "sh"):
        for _, name, *rest in commands(block):
            with click.Context(app):
                app.get_command(None, name).main(rest, standalone_mode=False)
    assert list(tmp_path.glob("runs/digits/*.png"))


def test_the_changed_line_keeps_loss_and_gradients():
    (change,) = blocks(ROOT / "docs" / "quick_start.md", "diff")
    recon, x = torch.rand(4, 784), torch.rand(4, 1, 28, 28)
    mu, logvar = torch.randn(4, 20), torch.randn(4, 20)
    results = []
    for left_out in "+-":
        lines = [line[1:] for line in change.content.splitlines() if line[:1] != left_out]
        names = {}
        exec("\n".join(lines), names)
        operands = [t.clone().requires_grad_() for t in (recon, mu, logvar)]
        loss = names["loss_function"](operands[0], x, *operands[1:])
        results.append((loss.detach(), *torch.autograd.grad(loss, operands)))
    torch.testing.assert_close(results[0], results[1])


def test_what_is_shown_of_a_formula_is_there():
    (shown,) = blocks(ROOT / "CONTRIBUTING.md", "cpp")
    source = (ROOT / "csrc" / "formulas" / "gaussian.h").read_text()
    for line in shown.content.splitlines():
        assert line in source.splitlines(), line
