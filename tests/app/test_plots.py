"""Pictures: what can be drawn is drawn, in the size and shape that was meant."""

import numpy as np
import pytest
import torch
from PIL import Image

from vae_fast.data import Data
from vae_fast.models import VAE, AutoEncoder
from vae_fast.plots import TrainedRun, draw_samples, picture_shape, plot_run
from vae_fast.plots.figure import tiles
from vae_fast.plots.latent import manifold_codes
from vae_fast.training import EpochMetrics


def history(epochs=3, test=True):
    return [
        EpochMetrics(
            epoch, 9.0 / epoch, 8.0 / epoch, 1.0 / epoch,
            *((10.0 / epoch, 9.0 / epoch, 1.0 / epoch) if test else (None, None, None)),
            seconds=0.1,
        )
        for epoch in range(1, epochs + 1)
    ]  # fmt: skip


def is_drawn(path):
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("L"))
    return pixels.std() > 5 and min(pixels.shape) > 200


@pytest.mark.parametrize("latent", [1, 2, 5])
def test_every_picture_of_a_pair_of_runs(tmp_path, digits, few_codes, latent):
    runs = [
        TrainedRun(model_type(digits.shape, latent, hidden=(8,)), history())
        for model_type in (VAE, AutoEncoder)
    ]
    written = plot_run(tmp_path, runs, digits)
    names = ["curves.png", "reconstructions.png", "samples.png", "latent.png"]
    assert [path.name for path in written] == names
    assert all(is_drawn(path) for path in written)


@pytest.mark.parametrize(
    ("shape", "pictures"), [((3, 6, 9), True), ((49,), True), ((5,), False), ((2, 6, 9), False)]
)
def test_data_of_every_shape(tmp_path, shape, pictures):
    x = torch.rand(12, *shape)
    run = TrainedRun(VAE(shape, 2, hidden=(8,)), history(1, test=False))
    written = plot_run(tmp_path, [run], Data("noise", x, x))
    assert len(written) == (4 if pictures else 2)
    assert all(is_drawn(path) for path in written)


def test_samples_of_any_number(tmp_path):
    model = VAE((1, 8, 8), 2, hidden=(8,))
    draw_samples(tmp_path / "x.png", [model], (1, 8, 8), 7, 3)
    assert is_drawn(tmp_path / "x.png")


def test_picture_shapes():
    assert picture_shape((1, 8, 9)) == (1, 8, 9)
    assert picture_shape((784,)) == (1, 28, 28)
    assert picture_shape((783,)) is None
    assert picture_shape((8, 9)) is None


def test_tiles_are_where_they_belong():
    data = torch.stack([torch.full((1, 2, 3), value) for value in (0.1, 0.2, 0.3)])
    canvas = tiles(data, (1, 2, 3), columns=2)
    assert canvas.shape == (5, 7)  # two rows and two columns, one pixel between
    assert canvas[0, 0] == pytest.approx(0.1)
    assert canvas[0, 4] == pytest.approx(0.2)
    assert canvas[3, 0] == pytest.approx(0.3)
    assert canvas[3, 4] == 1.0  # nothing there: paper
    assert tiles(torch.rand(4, 3, 2, 2) * 9, (3, 2, 2), 2).max() <= 1


def test_the_manifold_runs_over_the_prior():
    codes = manifold_codes()
    side = round(len(codes) ** 0.5)
    grid = codes.reshape(side, side, 2)
    assert (grid[0, :, 1] > grid[-1, :, 1]).all()  # z2 grows upwards
    assert (grid[:, 0, 0] < grid[:, -1, 0]).all()  # z1 to the right
    normal = torch.distributions.Normal(0.0, 1.0)
    steps = normal.cdf(grid[0, :, 0]).diff()
    torch.testing.assert_close(steps, steps[:1].expand_as(steps), atol=1e-5, rtol=1e-4)
