"""From the name of a source to its data."""

from __future__ import annotations

from pathlib import Path

from vae_fast.data.layout import Data, DataError, hold_out
from vae_fast.data.reading import MAX_BYTES

BUILT_IN = ("digits", "mnist")


def load(
    source: str,
    *,
    data_dir: str | Path | None = None,
    test_fraction: float = 1 / 6,
    image_size: int | None = None,
    max_bytes: int = MAX_BYTES,
    whole: bool = False,
    counts: bool = False,
    batch_key: str | None = None,
    label_key: str | None = None,
) -> Data:
    """Load data by name.

    Args:
        source: "digits" (8 x 8, in scikit-learn), "mnist", a .npy file, a .npz file, a folder of
            images; or, of counts, a .npz file of `scipy.sparse.save_npz`, in CSR, or a .h5ad file.
        data_dir: the folder of the four MNIST files; without it VAE_FAST_DATA, then the user's
            cache, into which they are downloaded.
        test_fraction: how much to hold out where the source has no test set of its own.
        image_size: images of a folder are cut square and scaled to this many pixels a side.
        max_bytes: what an array, the needed entries of a .npz, or the pixels of a folder may take.
        whole: all of a file or folder is held out, but for a .npz with a test set of its own.
        counts: the data are counts, or numbers of classes: whole numbers from 0 on, which are
            checked, and held and read as they are. Of digits 0..16, of other pictures 0..255.
        batch_key: of a .h5ad file, a column of obs that says under which condition each datum was
            measured; see `Data.conditions`.
        label_key: likewise, a column that says what each datum is, for pictures of the codes.

    Raises:
        DataError: the source is not there, or not usable; the message says what to do.
    """
    _require_arguments(source, data_dir, test_fraction, image_size, max_bytes)
    if not isinstance(counts, bool):
        raise DataError(f"counts must be true or false, got {counts!r}")
    for name, key in (("batch_key", batch_key), ("label_key", label_key)):
        if not isinstance(key, str | None):
            raise DataError(f"{name} is named by text, got {key!r}")
        if key is not None and not source.endswith(".h5ad"):
            raise DataError(
                f"{name} {key!r} is a column of an AnnData file's obs, and {source} is none"
            )
    if source == "digits":
        from vae_fast.data.digits import load_digits

        return hold_out("digits", *load_digits(counts=counts), test_fraction)
    if source == "mnist":
        from vae_fast.data.mnist import load_mnist

        return load_mnist(data_dir)  # as counts its bytes are what they are
    fraction = None if whole else test_fraction
    path = located(source)
    if source and path.is_dir():
        from vae_fast.data.folder import load_folder
        from vae_fast.data.rows import hold_out_rows

        images = load_folder(path, image_size, max_bytes)
        return hold_out_rows(path.name, *images, fraction, counts=counts)
    if path.suffix in (".npy", ".npz"):
        from vae_fast.data.arrays import load_array

        return load_array(path, fraction, max_bytes, counts=counts)
    if path.suffix == ".h5ad":
        from vae_fast.data.sparse import load_h5ad

        return load_h5ad(path, fraction, max_bytes, counts, batch_key, label_key)
    raise DataError(
        f"no data called {source!r}: expected digits, mnist, FILE.npy, FILE.npz, FILE.h5ad or a "
        "folder of images that exists"
    )


def located(source: str) -> Path:
    """Where a file or folder is that somebody names.

    Raises:
        DataError: it is in the home of a user whom there is not.
    """
    try:
        return Path(source).expanduser()
    except RuntimeError as error:
        raise DataError(f"{source!r}: {error}") from error


def _require_arguments(
    source: object, data_dir: object, test_fraction: object, image_size: object, max_bytes: object
) -> None:
    """They may come from a run's file."""
    if not isinstance(source, str) or not isinstance(data_dir, str | Path | None):
        raise DataError(f"a source is named by text, got {source!r} and the folder {data_dir!r}")
    if not isinstance(test_fraction, int | float) or not 0 < test_fraction < 1:
        raise DataError(f"the test fraction must be between 0 and 1, got {test_fraction!r}")
    for name, value in (("image_size", image_size), ("max_bytes", max_bytes)):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise DataError(f"{name} must be a whole number of at least 1, got {value!r}")
