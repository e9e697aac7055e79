"""Where the pictures come from: scikit-learn's digits, MNIST, an array in a file, a folder.

`load` gives every source in one form, `Data`: tensors in memory, uint8 wherever the source is,
channels before height and width.
"""

from vae_fast.data.fingerprint import fingerprint, require_same
from vae_fast.data.layout import Data, DataError
from vae_fast.data.sources import BUILT_IN, load, located

__all__ = ["BUILT_IN", "Data", "DataError", "fingerprint", "load", "located", "require_same"]
