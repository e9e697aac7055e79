"""The stable binding: `_ops.so` and what it needs from Python.

The library is built on LibTorch's stable ABI, so that one file serves every torch from 2.10 on. It
has the ops' schemas and kernels; the ABI has no nodes of autograd. These, autocast and the entries
that the public functions call are Python here, as they are C++ in the fast binding
(csrc/bindings): same ops, same results, some microseconds a call dearer.
:mod:`vae_fast.engine.extension` chooses.
"""
