"""Models of other packages, switched to vae_fast and back.

Each module here is of one package, its peer, which is imported with the module and not before::

    from vae_fast.integrations import scvi

    scvi.apply(model)  # the model, of whose class methods some are now vae_fast's
    scvi.revert(model)  # the model as it was

``apply`` switches one model, not the package: its class becomes a subclass of its own, under the
same name, whose methods compute the same with this package's functions. Weights, hooks,
``isinstance``, deepcopy and pickle stay as they were; a switched model is compiled, wrapped and
trained as before.

Errors of all of them: an ImportError where the peer is missing, or has not the names that the
module replaces (it says with which release it was tried); a TypeError for a model of a kind that is
not served; a ValueError for one that is switched already, or, of ``revert``, that is not.
"""
