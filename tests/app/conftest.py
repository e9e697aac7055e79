"""What the tests of models, trainer, data, command line and pictures stand on."""

import sys

import pytest
import torch

from vae_fast.cli import main
from vae_fast.data import load
from vae_fast.models import VAE


@pytest.fixture(autouse=True)
def _one_thread(cpu_threads):
    """These models are small: a second thread costs more than it gives."""
    cpu_threads(1)


@pytest.fixture(scope="session")
def digits():
    return load("digits")


@pytest.fixture
def few_codes(monkeypatch):
    """Pictures of codes show so few of them that t-SNE takes no time."""
    monkeypatch.setattr("vae_fast.plots.run._EMBEDDED", 60)


@pytest.fixture
def make_vae(digits):
    """A maker of small VAEs with the same first weights every time."""

    def make(seed: int = 3, **arguments) -> VAE:
        torch.manual_seed(seed)
        return VAE(digits.shape, 4, hidden=(32,), **arguments)

    return make


@pytest.fixture
def run_cli(monkeypatch, capsys):
    """The command line within this process: as it is, without the seconds of torch's import."""

    def run_here(*arguments, code=0):
        monkeypatch.setattr(sys, "argv", ["vae-fast", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "100")
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert (ended.value.code or 0) == code, said.out + said.err
        return said.out if code in (0, 130, 143) else said.err  # 130, 143: interrupted

    return run_here


@pytest.fixture
def error_of(run_cli):
    """The one line that a mistake gives."""

    def fail(*arguments, code):
        errors = run_cli(*arguments, code=code)
        assert errors.startswith("vae-fast: error: ")
        assert len(errors.splitlines()) == 1
        return errors

    return fail
