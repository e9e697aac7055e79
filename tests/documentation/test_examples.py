"""Every public name's docstring has an example, and it gives what it says."""

import doctest
import inspect
import warnings

import pytest

import vae_fast as vf
from vae_fast import latent
from vae_fast.latent import quantizers
from vae_fast.models import MODELS

ROOMS = (vf.distributions, latent, latent.posteriors, latent.priors, quantizers)
MODULES = {"vae_fast": vf} | {room.__name__: room for room in ROOMS}
DOCUMENTED = MODULES | {
    f"{module}.{name}": getattr(MODULES[module], name)
    for module in MODULES
    for name in MODULES[module].__all__
    if not isinstance(getattr(MODULES[module], name), str | dict) and name != "distributions"
}
DOCUMENTED |= {f"vae_fast.models.{model.__name__}": model for model in MODELS.values()}


@pytest.mark.parametrize("name", DOCUMENTED)
def test_an_example_runs(name):
    docstring = inspect.getdoc(DOCUMENTED[name])
    assert docstring is not None
    assert "\nExample:\n" in docstring
    test = doctest.DocTestParser().get_doctest(docstring, {}, name, None, 0)
    assert test.examples
    said = []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        doctest.DocTestRunner(verbose=False).run(test, out=said.append)
    assert not said, "".join(said)


def test_what_has_no_docstring_is_named_in_the_modules():
    """`__version__` is a string."""
    strings = [name for name in vf.__all__ if isinstance(getattr(vf, name), str)]
    assert strings == ["__version__"]
    assert "``vae_fast.__version__``" in inspect.getdoc(vf)
