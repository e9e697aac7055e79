"""The rows of `make bench`.

Those of `vae-fast bench`, every likelihood of the tests' table, and counts as single cells have
them.
"""

from itertools import chain

from benchmarks import single_cell
from tests.cases import CASES as LOSSES
from tests.device import DEVICE
from vae_fast.bench.cases import SMALL, kernels, likelihood

_OF_THE_TABLE = (
    likelihood(loss.op, loss.draws, loss.public, loss.torch, size)
    for loss in LOSSES
    if loss.names[-1] == "target"
    for size in ((512, 3072), (128, 20000))
)

# A new likelihood is measured without a line here.
CASES = list(
    {
        (case.op, case.name): case
        for case in chain(_OF_THE_TABLE, single_cell.cases(), kernels(DEVICE), SMALL)
    }.values()
)
