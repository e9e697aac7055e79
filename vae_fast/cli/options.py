"""The options of `vae-fast train`, in the groups in which its help lists them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import click

from vae_fast.bounds.estimators import ESTIMATORS
from vae_fast.cli.grouped import COUNT, SEED, Device, FiniteRange, Sizes, Threads, option
from vae_fast.cli.own_settings import Assignment
from vae_fast.data.reading import MAX_BYTES
from vae_fast.models import MODELS
from vae_fast.models.base import ARCHITECTURES, HEADS
from vae_fast.training import TrainerConfig
from vae_fast.training.config import Precision, Schedule

_DEFAULTS = TrainerConfig()
_ABOVE_ZERO = FiniteRange(0, min_open=True)
_FROM_ZERO = FiniteRange(0)

_OPTIONS = (
    option(
        "Data",
        "--data",
        default="digits",
        metavar="SOURCE",
        help="digits (8 x 8, in scikit-learn), mnist, FILE.npy, FILE.npz, or a folder of images; "
        "of counts also FILE.h5ad (AnnData's X) and scipy's sparse FILE.npz (CSR).",
    ),
    option(
        "Data",
        "--data-dir",
        type=click.Path(path_type=Path),
        metavar="FOLDER",
        help="Where MNIST's four files are; without it VAE_FAST_DATA, then a cache to which they "
        "are downloaded.",
    ),
    option(
        "Data",
        "--test-fraction",
        type=FiniteRange(0, 1, min_open=True, max_open=True),
        default=1 / 6,
        show_default="1/6",
        help="Part held out where the source has no test set.",
    ),
    option(
        "Data",
        "--batch-key",
        metavar="NAME",
        help="Column of FILE.h5ad's obs that says under which condition (batch, donor) a cell was "
        "measured: the encoder and the decoder are told, so that the code need not hold it.",
    ),
    option(
        "Data",
        "--label-key",
        metavar="NAME",
        help="Column of FILE.h5ad's obs that says what a cell is, for the picture of the codes.",
    ),
    option(
        "Data",
        "--image-size",
        type=COUNT,
        metavar="PIXELS",
        help="Side to which the images of a folder are cut and scaled.",
    ),
    option(
        "Data",
        "--max-bytes",
        type=click.IntRange(1),
        default=MAX_BYTES,
        show_default="16 GiB",
        metavar="N",
        help="What a file or folder may take in memory.",
    ),
    option(
        "Data",
        "--standardize",
        is_flag=True,
        help="Give each column of a table mean 0 and variance 1; losses are then in these units.",
    ),
    option(
        "Model",
        "--model",
        "kind",
        type=click.Choice(list(MODELS)),
        default="vae",
        help="Variational auto-encoder, the plain one, or another of those that the documentation "
        "lists under models.",
    ),
    option(
        "Model",
        "--set",
        "own",
        type=Assignment(),
        multiple=True,
        help="A setting of the model's own, such as beta=4 of beta_vae; may be given again.",
    ),
    option(
        "Model",
        "--arch",
        "architecture",
        type=click.Choice(list(ARCHITECTURES)),
        default="mlp",
        help="Linear layers, convolutions in front of them, or residual blocks between those, too.",
    ),
    option(
        "Model",
        "--hidden",
        type=Sizes(),
        default="400",
        help="Sizes of the hidden linear layers; the decoder mirrors them.",
    ),
    option(
        "Model",
        "--channels",
        type=Sizes(),
        default="32,64",
        help="Channels of the convolutions, each of which halves the picture.",
    ),
    option(
        "Model",
        "--latent",
        type=COUNT,
        default=20,
        metavar="N",
        help="Numbers in the code; 2 gives a map of it.",
    ),
    option(
        "Model",
        "--likelihood",
        type=click.Choice(list(HEADS)),
        default="bernoulli",
        help="bernoulli or continuous_bernoulli for intensities in [0, 1], discretized_logistic "
        "for the 256 levels of a byte, discretized_logistic_mixture for those of colour pictures; "
        "gaussian, laplace or student_t for real values, von_mises for angles; poisson or "
        "negative_binomial for counts, zero_inflated_... where more of them are zero; categorical "
        "for classes 0 .. K-1 without an order, ordinal for those in one.",
    ),
    option(
        "Model",
        "--num-classes",
        type=COUNT,
        metavar="K",
        help="Of categorical and ordinal data.  [default: as many as the data have]",
    ),
    option(
        "Model",
        "--num-mixtures",
        type=COUNT,
        metavar="K",
        help="Of discretized_logistic_mixture.  [default: 10]",
    ),
    option(
        "Model",
        "--decoder-logvar",
        default="learned",
        metavar="learned|optimal|pixel|NUMBER",
        help="Log-variance of the gaussian likelihood.",
    ),
    option(
        "Objective",
        "--beta",
        type=_FROM_ZERO,
        default=_DEFAULTS.beta,
        help="Weight of the KL term.",
    ),
    option(
        "Objective",
        "--kl-warmup",
        type=_FROM_ZERO,
        default=_DEFAULTS.kl_warmup,
        metavar="EPOCHS",
        help="Epochs in which that weight rises from 0.",
    ),
    option(
        "Objective",
        "--kl-cycles",
        type=COUNT,
        default=_DEFAULTS.kl_cycles,
        metavar="N",
        help="Equal parts of the run, each of which begins with such a rise.",
    ),
    option(
        "Objective",
        "--kl-capacity",
        type=_FROM_ZERO,
        metavar="NATS",
        help="Hold the KL term at this, by beta times what it is off: with a beta far above 1.",
    ),
    option(
        "Objective",
        "--kl-capacity-warmup",
        type=_FROM_ZERO,
        default=_DEFAULTS.kl_capacity_warmup,
        metavar="EPOCHS",
        help="Epochs in which that capacity rises from 0.",
    ),
    option(
        "Objective",
        "--free-bits",
        type=_FROM_ZERO,
        default=_DEFAULTS.free_bits,
        metavar="NATS",
        help="KL that each latent dimension has for nothing.",
    ),
    option(
        "Objective",
        "--estimator",
        type=click.Choice(list(ESTIMATORS)),
        default=_DEFAULTS.estimator,
        help="The bound and the estimate of its gradient. Of several samples iwae, miwae, piwae, "
        "ciwae, renyi or vr_max; by the path alone stl (ELBO) or dreg (IWAE); by the score "
        "function reinforce, reinforce_loo or vimco.",
    ),
    option(
        "Objective",
        "--num-samples",
        type=COUNT,
        default=_DEFAULTS.num_samples,
        metavar="K",
        help="Codes drawn for each datum.",
    ),
    option(
        "Objective",
        "--alpha",
        type=FiniteRange(),
        metavar="NUMBER",
        help="Order of renyi and dreg (0: IWAE, 1: ELBO); the ELBO's share in ciwae.",
    ),
    option(
        "Objective",
        "--groups",
        type=COUNT,
        metavar="M",
        help="Into which miwae, piwae and dreg split the samples.",
    ),
    option(
        "Objective",
        "--antithetic",
        is_flag=True,
        help="Draw the codes in pairs, mu + sigma eps and mu - sigma eps.",
    ),
    option(
        "Optimisation",
        "--epochs",
        type=COUNT,
        default=_DEFAULTS.epochs,
        help="Passes over the training data.",
    ),
    option(
        "Optimisation",
        "--batch-size",
        type=COUNT,
        default=_DEFAULTS.batch_size,
        help="Data in a step.",
    ),
    option(
        "Optimisation",
        "--learning-rate",
        "--lr",
        type=_ABOVE_ZERO,
        default=_DEFAULTS.learning_rate,
        help="Of Adam.",
    ),
    option(
        "Optimisation",
        "--schedule",
        type=click.Choice(get_args(Schedule)),
        default=_DEFAULTS.schedule,
        help="The learning rate over the run.",
    ),
    option(
        "Optimisation",
        "--lr-warmup",
        type=_FROM_ZERO,
        default=_DEFAULTS.lr_warmup,
        metavar="EPOCHS",
        help="Epochs in which the learning rate rises from 0.",
    ),
    option(
        "Optimisation",
        "--weight-decay",
        type=_FROM_ZERO,
        default=_DEFAULTS.weight_decay,
        help="Decoupled, as in AdamW.",
    ),
    option(
        "Optimisation", "--clip-norm", type=_ABOVE_ZERO, help="Longest gradient; longer are cut."
    ),
    option(
        "Optimisation",
        "--patience",
        type=COUNT,
        metavar="EPOCHS",
        help="Stop after so many epochs without a better test loss, and keep the best weights.",
    ),
    option(
        "Optimisation",
        "--min-delta",
        type=_FROM_ZERO,
        default=_DEFAULTS.min_delta,
        metavar="NATS",
        help="How much lower a test loss must be to be better.",
    ),
    option(
        "Run",
        "--out",
        type=click.Path(path_type=Path, file_okay=False),
        metavar="FOLDER",
        help="Where the run goes.  [default: runs/SOURCE-MODEL]",
    ),
    option(
        "Run",
        "--resume",
        is_flag=True,
        help="Go on with the run in --out, with its own settings; only --epochs, --device, "
        "--threads and --plots may be given anew.",
    ),
    option("Run", "--overwrite", is_flag=True, help="Replace a run that is in --out."),
    option(
        "Run",
        "--seed",
        type=SEED,
        default=_DEFAULTS.seed,
        help="Of the weights, the order of the data and the noise.",
    ),
    option(
        "Run",
        "--device",
        type=Device(),
        default=_DEFAULTS.device,
        help="auto is a GPU where there is one.",
    ),
    option(
        "Run",
        "--precision",
        type=click.Choice(get_args(Precision)),
        default=_DEFAULTS.precision,
        help="Of the networks' matrix products; the losses are exact in both.",
    ),
    option(
        "Run",
        "--cuda-graphs/--no-cuda-graphs",
        default=_DEFAULTS.cuda_graphs,
        help="On a GPU, record the training step once and replay it.",
    ),
    option("Run", "--threads", type=Threads(), help="Threads of the CPU.  [default: torch's]"),
    option(
        "Run",
        "--checkpoint-every",
        type=COUNT,
        default=_DEFAULTS.checkpoint_every,
        metavar="EPOCHS",
        help="Epochs between checkpoints.",
    ),
    option("Run", "--tensorboard", is_flag=True, help="Write curves for TensorBoard too."),
    option("Run", "--plots/--no-plots", default=True, help="Draw the run's pictures at the end."),
)


def train_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command all of them."""
    for add in reversed(_OPTIONS):
        function = add(function)
    return function
