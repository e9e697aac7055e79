"""What is trained with and without: a model, a step of whose training is one loss.

A case builds the same model twice, by the seed, and tells for each step what its loss is; the
noise is the same in both, as the peers keep theirs (diffusers', which does not, is given ours).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import anndata
import diffusers
import pyro
import pyro.distributions as dist
import pythae.models
import scvi
import torch
from diffusers.models.autoencoders import vae as diffusers_vae
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from torch import nn
from torch.nn import functional

import vae_fast as vf
from examples import drop_in
from tests.dropin.data import batch, binary, counts, pictures
from tests.dropin.without_torchvision import stand_in
from vae_fast.integrations import diffusers as of_diffusers
from vae_fast.integrations import pyro as of_pyro
from vae_fast.integrations import pythae as of_pythae
from vae_fast.integrations import scvi as of_scvi

with stand_in():
    import multivae.models
    from multivae.data.datasets.base import MultimodalBaseDataset

    from vae_fast.integrations import multivae as of_multivae

SEED = 3


@dataclass(frozen=True)
class Training:
    """A model, and the loss of a step of its training, by the step's number."""

    module: nn.Module
    loss: Callable[[int], torch.Tensor]


@dataclass(frozen=True)
class Case:
    peer: str
    what: str
    lines: int  # that a user adds or changes, an import among them
    build: Callable[[bool], Training]  # switched or not
    is_one_graph: bool = True  # under torch.compile, where the peer itself breaks none

    def __str__(self):
        return f"{self.peer}, {self.what}"

    def training(self, is_switched):
        """The same weights in both."""
        torch.manual_seed(SEED)
        return self.build(is_switched)


# ---- the peers -----------------------------------------------------------------------------------


def example(is_switched):
    """The VAE of pytorch/examples: the loss changes by one line."""
    x = pictures().flatten(1)
    model = drop_in.VAE(x.shape[1])
    elbo = drop_in.fused_loss if is_switched else drop_in.plain_loss

    def loss(step):
        part = batch(x, step)
        recon_x, mu, logvar = model(part)
        return elbo(recon_x, part, mu, logvar)

    return Training(model, loss)


class Encoder(BaseEncoder):
    """As pythae's default one, which reads a number out of a tensor: that breaks a graph."""

    def __init__(self, pixels, codes, hidden=512):
        super().__init__()
        self.fc, self.relu = nn.Linear(pixels, hidden), nn.ReLU()
        self.mean, self.log_var = nn.Linear(hidden, codes), nn.Linear(hidden, codes)

    def forward(self, x):
        h = self.relu(self.fc(x.flatten(1)))
        found = ModelOutput()
        found["embedding"], found["log_covariance"] = self.mean(h), self.log_var(h)
        return found


class Decoder(BaseDecoder):
    def __init__(self, shape, codes, hidden=512):
        super().__init__()
        self.shape = shape
        pixels = math.prod(shape)
        self.layers = nn.Sequential(
            nn.Linear(codes, hidden), nn.ReLU(), nn.Linear(hidden, pixels), nn.Sigmoid()
        )

    def forward(self, z):
        found = ModelOutput()
        found["reconstruction"] = self.layers(z).reshape(-1, *self.shape)
        return found


def of_pythaes(name, **settings):
    def build(is_switched):
        x, codes = pictures(), 16
        shape = tuple(x.shape[1:])
        config = getattr(pythae.models, f"{name}Config")(
            input_dim=shape, latent_dim=codes, **settings
        )
        networks = Encoder(math.prod(shape), codes), Decoder(shape, codes)
        model = getattr(pythae.models, name)(config, *networks)
        if is_switched:
            of_pythae.apply(model)
        return Training(model, lambda step: model({"data": batch(x, step)}, epoch=step)["loss"])

    return build


def kl_autoencoder(is_switched):
    """AutoencoderKL as it is trained: half squares, and the divergence weighed by 1e-6."""
    x = 2 * pictures(16).expand(-1, 3, -1, -1) - 1
    model = diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(16, 32),
        latent_channels=4,
        norm_num_groups=8,
        sample_size=16,
    )
    if is_switched:
        of_diffusers.apply(model)

    def loss(step):
        part = batch(x, step, 16)
        posterior = model.encode(part).latent_dist
        recon = model.decode(posterior.sample()).sample
        squares = functional.mse_loss(recon, part, reduction="sum")
        return (0.5 * squares + 1e-6 * posterior.kl().sum()) / len(part)

    return Training(model, loss)


def our_noise(shape, generator=None, device=None, dtype=None):
    """For diffusers' ``randn_tensor``: what vae_fast draws at the same state of the generator."""
    zeros = torch.zeros(shape, device=device, dtype=dtype)
    return vf.reparameterize(zeros, zeros, generator=generator)


diffusers_vae.randn_tensor = our_noise


def of_scvis(likelihood, **settings):
    def build(is_switched):
        cells = anndata.AnnData(counts())
        scvi.model.SCVI.setup_anndata(cells)
        model = scvi.model.SCVI(cells, gene_likelihood=likelihood, **settings)
        batches = list(model._make_data_loader(cells, batch_size=128))[:5]
        if is_switched:
            of_scvi.apply(model)
        module = model.module.train()
        return Training(module, lambda step: module(batches[step % len(batches)])[2].loss)

    return build


class PyrosVAE(nn.Module):
    """The VAE of Pyro's tutorial."""

    def __init__(self, pixels, codes=50, hidden=400):
        super().__init__()
        self.codes = codes
        self.fc1, self.softplus = nn.Linear(pixels, hidden), nn.Softplus()
        self.fc21, self.fc22 = nn.Linear(hidden, codes), nn.Linear(hidden, codes)
        self.decoder = nn.Sequential(
            nn.Linear(codes, hidden), nn.Softplus(), nn.Linear(hidden, pixels)
        )

    def encode(self, x):
        h = self.softplus(self.fc1(x))
        return self.fc21(h), self.fc22(h)

    def model(self, x):
        with pyro.plate("data", len(x)):
            prior = x.new_zeros(len(x), self.codes), x.new_ones(len(x), self.codes)
            z = pyro.sample("latent", dist.Normal(*prior).to_event(1))
            pixels = dist.Bernoulli(torch.sigmoid(self.decoder(z)))
            pyro.sample("obs", pixels.to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("data", len(x)):
            mean, log_scale = self.encode(x)
            pyro.sample("latent", dist.Normal(mean, torch.exp(log_scale)).to_event(1))

    def own_model(self, x):
        """The same with the distributions of vae_fast."""
        with pyro.plate("data", len(x)):
            z = pyro.sample("latent", of_pyro.Normal(x.new_zeros(len(x), self.codes)).to_event(1))
            pyro.sample("obs", of_pyro.Bernoulli(self.decoder(z)).to_event(1), obs=x)

    def own_guide(self, x):
        with pyro.plate("data", len(x)):
            mean, log_scale = self.encode(x)
            pyro.sample("latent", of_pyro.Normal(mean, 2 * log_scale).to_event(1))


def of_pyros(elbo, is_written):
    def build(is_switched):
        x = binary(pictures().flatten(1))
        module = PyrosVAE(x.shape[1])
        model, guide = module.model, module.guide
        if is_switched and is_written:
            model, guide = module.own_model, module.own_guide
        elif is_switched:
            model = of_pyro.apply(model)
        return Training(
            module, lambda step: elbo.differentiable_loss(model, guide, batch(x, step, 256))
        )

    return build


def of_multivaes(name):
    def build(is_switched):
        x = binary(pictures())
        left, right = x, x.flip(-1)
        size = tuple(x.shape[1:])
        config = getattr(multivae.models, f"{name}Config")(
            n_modalities=2,
            latent_dim=16,
            input_dims={"left": size, "right": size},
            decoders_dist={"left": "bernoulli", "right": "bernoulli"},
        )
        model = getattr(multivae.models, name)(config)
        if is_switched:
            of_multivae.apply(model)

        def loss(step):
            data = {"left": batch(left, step), "right": batch(right, step)}
            return model(MultimodalBaseDataset(data), epoch=step).loss

        return Training(model, loss)

    return build


BCE = {"reconstruction_loss": "bce"}
MEAN_FIELD, TRACE = pyro.infer.TraceMeanField_ELBO(), pyro.infer.Trace_ELBO()
CASES = (
    Case("pytorch/examples", "VAE", 2, example),
    Case("diffusers", "AutoencoderKL", 2, kl_autoencoder),
    Case("scvi-tools", "SCVI, nb", 2, of_scvis("nb")),
    Case("scvi-tools", "SCVI, zinb", 2, of_scvis("zinb")),
    Case("scvi-tools", "SCVI, zinb, gene-cell", 2, of_scvis("zinb", dispersion="gene-cell")),
    Case("scvi-tools", "SCVI, poisson", 2, of_scvis("poisson")),
    Case("scvi-tools", "SCVI, normal", 2, of_scvis("normal")),
    Case("pythae", "VAE, bce", 2, of_pythaes("VAE", **BCE)),
    Case("pythae", "VAE, mse", 2, of_pythaes("VAE")),
    Case("pythae", "BetaVAE, bce", 2, of_pythaes("BetaVAE", beta=4.0, **BCE)),
    Case(
        "pythae",
        "DisentangledBetaVAE, bce",
        2,
        of_pythaes("DisentangledBetaVAE", C=5.0, warmup_epoch=3, **BCE),
    ),
    Case("pythae", "VAMP, bce", 2, of_pythaes("VAMP", linear_scheduling_steps=3, **BCE)),
    Case("pythae", "IWAE of 10, bce", 2, of_pythaes("IWAE", number_samples=10, **BCE)),
    Case("pythae", "CIWAE of 5, bce", 2, of_pythaes("CIWAE", number_samples=5, beta=0.3, **BCE)),
    Case(
        "pythae",
        "MIWAE of 2 x 4, bce",
        2,
        of_pythaes("MIWAE", number_samples=4, number_gradient_estimates=2, **BCE),
    ),
    Case("Pyro", "VAE, Trace_ELBO", 2, of_pyros(TRACE, is_written=False), False),
    Case("Pyro", "VAE, TraceMeanField_ELBO", 2, of_pyros(MEAN_FIELD, is_written=False), False),
    Case("Pyro", "the same, rewritten", 4, of_pyros(MEAN_FIELD, is_written=True), False),
    Case("MultiVae", "JMVAE, bernoulli", 2, of_multivaes("JMVAE"), False),
    Case("MultiVae", "MMVAE, bernoulli", 2, of_multivaes("MMVAE"), False),
)
