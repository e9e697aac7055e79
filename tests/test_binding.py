"""Which of the two bindings serves, and what is said where it is the slower one."""

import os
from dataclasses import replace

import pytest

import vae_fast as vf
from vae_fast.engine import extension


@pytest.fixture
def built(monkeypatch, tmp_path):
    """Says which bindings there are, by what loading them gives."""

    def set_loaders(**found):
        def loader(name):
            def load():
                if isinstance(found.get(name), str):
                    return found[name]
                raise found.get(name) or ImportError("it was not built")

            return load

        monkeypatch.delenv("VAE_FAST_BINDING", raising=False)
        for name in ("fast", "stable"):
            monkeypatch.setitem(extension._LOADERS, name, loader(name))
        library = tmp_path / "_ops.so"
        library.unlink(missing_ok=True)
        if "stable" in found:
            library.touch()
        monkeypatch.setattr(extension, "_STABLE", library)
        monkeypatch.setattr(extension, "_FAST", "os" if "fast" in found else "vae_fast.none")
        return monkeypatch

    return set_loaders


def test_the_chosen_one_serves():
    chosen = os.environ.get("VAE_FAST_BINDING")
    assert vf.build_info().binding == (chosen or extension.BINDING)
    assert chosen is None or vf.build_info().no_fast_binding is None


def test_the_fast_one_goes_first(built):
    built(fast="C", stable="Python")
    assert extension._load() == ("fast", "C", None)
    built(stable="Python")
    assert extension._load() == ("stable", "Python", "it was not built")
    built()
    assert extension._load() == (None, None, None)


def test_the_stable_one_serves_another_torch(built):
    built(fast=ImportError("undefined symbol"), stable="Python")
    assert extension._load() == ("stable", "Python", "undefined symbol")
    built(fast=ImportError("undefined symbol"))
    with pytest.raises(ImportError, match=r"does not load into torch .*undefined symbol.*build it"):
        extension._load()


def test_a_choice_is_kept(built):
    built(fast="C", stable="Python").setenv("VAE_FAST_BINDING", "stable")
    assert extension._load() == ("stable", "Python", None)
    built(fast="C").setenv("VAE_FAST_BINDING", "stable")
    with pytest.raises(ImportError, match=r"stable binding does not load .* it was not built"):
        extension._load()
    built(stable="Python").setenv("VAE_FAST_BINDING", "fast")
    with pytest.raises(ImportError, match="fast binding does not load"):
        extension._load()
    built(fast="C").setenv("VAE_FAST_BINDING", "quick")
    with pytest.raises(ValueError, match="is 'quick', expected 'fast' or 'stable'"):
        extension._load()


def test_what_it_costs_is_said():
    info = replace(vf.build_info(), binding="stable", no_fast_binding="it was not built")
    assert extension.COST_OF_STABLE in str(info)
    assert "it was not built" in str(info)
    assert extension.COST_OF_STABLE not in str(replace(info, no_fast_binding=None))
