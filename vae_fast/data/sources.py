"""From the name of a source to its data."""

from __future__ import annotations

from pathlib import Path

from vae_fast.data.layout import Data, DataError, hold_out

BUILT_IN = ("digits", "mnist")


def load(
    source: str,
    *,
    data_dir: str | Path | None = None,
    test_fraction: float = 1 / 6,
    image_size: int | None = None,
) -> Data:
    """Load data by name.

    Args:
        source: "digits" (8 x 8, in scikit-learn), "mnist", a .npy file, a .npz file, or a folder
            of images.
        data_dir: the folder of the four MNIST files; without it VAE_FAST_DATA, then the user's
            cache, into which they are downloaded.
        test_fraction: how much to hold out where the source has no test set of its own.
        image_size: images of a folder are cut square and scaled to this many pixels a side.

    Raises:
        DataError: the source is not there, or not usable; the message says what to do.
    """
    if not 0 < test_fraction < 1:
        raise DataError(f"the test fraction must be between 0 and 1, got {test_fraction:g}")
    if source == "digits":
        from vae_fast.data.digits import load_digits

        return hold_out("digits", *load_digits(), test_fraction)
    if source == "mnist":
        from vae_fast.data.mnist import load_mnist

        return load_mnist(data_dir)
    path = Path(source).expanduser()
    if path.is_dir():
        from vae_fast.data.folder import load_folder

        return hold_out(path.name, *load_folder(path, image_size), test_fraction)
    if path.suffix in (".npy", ".npz"):
        from vae_fast.data.arrays import load_array

        return load_array(path, test_fraction)
    raise DataError(
        f"no data called {source!r}: expected digits, mnist, FILE.npy, FILE.npz or a folder of "
        "images that exists"
    )
