"""Pictures of runs, drawn with matplotlib and without a display."""

from vae_fast.plots.figure import picture_shape
from vae_fast.plots.run import TrainedRun, draw_reconstructions, draw_samples, plot_run

__all__ = ["TrainedRun", "draw_reconstructions", "draw_samples", "picture_shape", "plot_run"]
