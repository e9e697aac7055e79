"""Random calls of the public functions against plain float64: `python -m tests.fuzz --help`.

functions.py says what is called and what it should give, draws.py makes operands of every shape,
stride and dtype, calls.py compares, mistakes.py makes calls that must be refused.
"""
