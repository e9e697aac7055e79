"""What an auto-encoder and a VAE share: networks around a code, and a likelihood at the end."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, SupportsIndex

import torch
from torch import Tensor, nn
from torch.utils._pytree import _register_namedtuple

from vae_fast.bounds import ELBO
from vae_fast.engine.checks import is_int
from vae_fast.engine.likelihood import Likelihood, Params, are_whole
from vae_fast.engine.table import LIKELIHOODS
from vae_fast.latent.checks import check_generators
from vae_fast.latent.seeds import Generator
from vae_fast.models.conditions import condition_numbers, with_codes, without_condition
from vae_fast.models.fused import Plain, as_written, can_fuse, starts_with_linear
from vae_fast.models.networks import conv_decoder, conv_encoder, mlp_decoder, mlp_encoder
from vae_fast.models.wide import WideDecoder

# By name, the residual blocks between the convolutions; None: there are none of these either.
ARCHITECTURES = {"mlp": None, "conv": 0, "resnet": 2}
_BYTE = 1 / 255
_MOST_CONDITIONS = 256

# The likelihoods that a decoder may end in, by name.
HEADS = {name: entry.head for name, entry in LIKELIHOODS.items() if entry.head is not None}
# Those that the fused ops know, where they do what they were written to do: what the decoder gives
# is the first parameter of their function, and the encoder reads the data as floats.
_plain_heads = [
    Plain(entry.head, "nll", "encoded")
    for entry in LIKELIHOODS.values()
    if entry.head is not None
    and entry.op is not None
    and (entry.head.nll, entry.head.encoded) == (Likelihood.nll, Likelihood.encoded)
]

Shape = int | Sequence[int]


class LatentModel(nn.Module):
    """An encoder, a code of `latent_dim` numbers, a decoder and a likelihood p(x | code).

    `model(x, return_loss=True)` is the loss: what wraps a module (DistributedDataParallel, FSDP,
    Accelerate, torch.compile) wraps training, too. `model.loss(x)` is short for it on the model
    itself.

    Args:
        input_shape: of one datum without the batch: 784, or (1, 28, 28).
        latent_dim: size of the code; a shape, such as (4, 8, 8), for modules of your own.
        hidden: sizes of the hidden linear layers, from the data inwards; the decoder mirrors them.
        architecture: "mlp", or "conv" for pictures (C, H, W): convolutions of stride 2 in front of
            the linear layers; or "resnet": two residual blocks behind each of these.
        channels: of those convolutions.
        likelihood: "bernoulli" for intensities in [0, 1], "gaussian" for real values,
            "negative_binomial" for counts; any that has a head in its file of
            `vae_fast.likelihoods` ("continuous_bernoulli", "laplace", ...).
        decoder_logvar: of the Gaussian: "learned" (one number), "optimal" (the best one for each
            batch), "pixel" (one from the decoder for each element), or a number that stays fixed.
        min_logvar: a lower bound of "learned" and "pixel" log-variances, which they approach
            smoothly: min_logvar + softplus(logvar - min_logvar). Data that the decoder reproduces
            exactly would otherwise send them, and the loss, to minus infinity. -6 is a standard
            deviation of 0.05. None: no bound.
        conditions: of a VAE of counts (D,): the names of what its data were measured under, such as
            the batches of cells. x is then (B, D + 1), the last column the number of the datum's
            own, which encoder and decoder are given beside their inputs, as one-hot codes: so that
            the code need not hold it. Loaders, wrappers and the trainer take it as it is.
        library: of counts, whose means are shares of a datum's total: the total that `sample` and
            `mean` take, which have no datum; that of the training data on average, for example.
            None is 1: shares.
        num_classes: of "categorical" and "ordinal" data, which are whole numbers from 0 to
            num_classes - 1: from 2 to 256.
        num_mixtures: logistics that "discretized_logistic_mixture" mixes; None is 10.
        encoder: a module of your own in place of the encoder, from (B, *input_shape) floats to
            (B, `code_size` * latent_dim, ...).
        decoder: a module of your own in place of the decoder, from (B, *latent_dim) to
            (B, *input_shape), or what else `likelihood.raw_shape(input_shape)` says: twice the
            channels for `decoder_logvar="pixel"`.

    Raises:
        ValueError: an argument is out of its range; the message names it. Of all methods that take
            x: it is not (batch, *input_shape).
    """

    kind: ClassVar[str]  # its name on the command line and in files
    title: ClassVar[str]  # its name in pictures
    has_prior: ClassVar[bool] = True  # whether `sample` draws where the codes were asked to be
    takes_conditions: ClassVar[bool] = False
    code_size: ClassVar[int]  # numbers that the encoder gives for each one in the code
    _methods: ClassVar[dict[str, Any]]  # what `forward` may leave out, as it was written

    def __init__(
        self,
        input_shape: Shape = 784,
        latent_dim: Shape = 20,
        *,
        hidden: Sequence[int] = (400,),
        architecture: Literal["mlp", "conv", "resnet"] = "mlp",
        channels: Sequence[int] = (32, 64),
        likelihood: str = "bernoulli",
        decoder_logvar: Literal["learned", "optimal", "pixel"] | float = "learned",
        min_logvar: float | None = None,
        library: float | None = None,
        num_classes: int | None = None,
        num_mixtures: int | None = None,
        conditions: Sequence[str] = (),
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.input_shape = _shape("input_shape", input_shape)
        self.conditions = _names("conditions", conditions)
        self.latent_shape = _shape("latent_dim", latent_dim)
        hidden = sizes_of("hidden", hidden)
        channels = sizes_of("channels", channels)
        if architecture not in ARCHITECTURES:
            raise ValueError(
                f"architecture is {architecture!r}; expected one of {(*ARCHITECTURES,)}"
            )
        if likelihood not in HEADS:
            raise ValueError(f"likelihood is {likelihood!r}; expected one of {(*HEADS,)}")
        blocks = ARCHITECTURES[architecture]
        if blocks is not None:
            if len(self.input_shape) != 3:
                raise ValueError(
                    f"input_shape is {self.input_shape}; convolutions need pictures (C, H, W)"
                )
            if not channels:
                raise ValueError("channels is empty; convolutions need at least one")
        head = HEADS[likelihood]
        if self.conditions:
            if not self.takes_conditions or head.data != "counts" or architecture != "mlp":
                raise ValueError("conditions are for a VAE of counts with linear layers")
            if len(self.input_shape) != 1:
                raise ValueError(f"input_shape is {self.input_shape}; with conditions it is (D,)")
        given: dict[str, Any] = {
            "min_logvar": min_logvar,
            "library": library,
            "num_classes": num_classes,
            "num_mixtures": num_mixtures,
        }
        given = {
            name: int(value) if is_int(value) else value
            for name, value in given.items()
            if value is not None
        }
        for name, value in given.items():
            if name not in head.settings:
                raise ValueError(f"{name} is {value}, which likelihood {likelihood!r} lacks")
        settings = {"decoder_logvar": decoder_logvar, "input_shape": self.input_shape, **given}
        self.likelihood: Likelihood = head(
            **{name: settings[name] for name in head.settings if name in settings}
        )

        if decoder is None and len(self.latent_shape) > 1:
            raise ValueError(
                f"latent_dim is {self.latent_shape}; a shape is for a decoder of your own"
            )
        codes = self._code_numbers()
        wanted = self.likelihood.raw_shape(self.input_shape)
        read = self.likelihood.encoded_shape(self.input_shape)
        latent = math.prod(self.latent_shape)
        if blocks is not None:
            self.encoder = encoder or conv_encoder(read, channels, hidden, codes, blocks=blocks)
            self.decoder = decoder or conv_decoder(latent, channels, hidden, wanted, blocks=blocks)
        else:
            beside = len(self.conditions)
            shape = (read[0] + beside, *read[1:])
            self.encoder = encoder or mlp_encoder(shape, hidden, codes, reads_csr=self._takes_csr)
            self.decoder = decoder or mlp_decoder(latent + beside, hidden, wanted)

        # Has the weights' dtype and device where there are no parameters to ask: in the replicas of
        # nn.DataParallel, and in a model whose layers were quantized.
        self.register_buffer("_like", torch.empty(0), persistent=False)
        # What builds this model again; None where modules came from outside.
        self.config: dict[str, Any] | None = None
        if encoder is None and decoder is None:
            self.config = {
                "model": self.kind,
                "input_shape": list(self.input_shape),
                "latent_dim": list(self.latent_shape)
                if isinstance(latent_dim, Sequence)
                else latent,
                "hidden": list(hidden),
                "architecture": architecture,
                "channels": list(channels),
                "likelihood": likelihood,
                "decoder_logvar": decoder_logvar,
                **given,
                **({"conditions": list(self.conditions)} if self.conditions else {}),
            }

    def _code_numbers(self) -> int:
        """How many numbers the encoder gives for a datum."""
        return self.code_size * math.prod(self.latent_shape)

    def _keep(self, **settings: Any) -> None:
        """A model's own settings, as attributes and in `config`."""
        for name, value in settings.items():
            setattr(self, name, value)
        if self.config is not None:
            self.config |= settings

    @property
    def data_shape(self) -> tuple[int, ...]:
        """`input_shape`, of one datum of x, and with conditions a column more."""
        return (self.input_shape[0] + 1,) if self.conditions else self.input_shape

    def measured(self, x: Tensor) -> Tensor:
        """x, (B, *input_shape): without the number of its condition, if it has one."""
        return without_condition(x) if self.conditions else x

    def _weight(self) -> Tensor:
        """One of the model's weights, for its dtype and device."""
        tensors = itertools.chain(self.parameters(), self.buffers())
        return next(tensor for tensor in tensors if tensor.is_floating_point())

    @property
    def _takes_csr(self) -> bool:
        """Whether a batch may be in `torch.sparse_csr`: where data are rows of counts alone."""
        return self.likelihood.data == "counts" and len(self.input_shape) == 1

    @property
    def reads_csr(self) -> bool:
        """Whether a batch in `torch.sparse_csr` is read as it is, and not made dense on the way."""
        return self._takes_csr and self._weight().is_cpu and starts_with_linear(self.encoder)

    def prepare(self, x: Tensor) -> Tensor:
        """Data as floats in the weights' dtype; uint8 as x / 255, but of counts and classes not."""
        if not isinstance(x, Tensor):
            raise TypeError(f"x is of type {type(x).__name__}; expected a tensor")
        if x.dim() == 0 or x.shape[1:] != self.data_shape:
            expected = ", ".join(map(str, ("batch", *self.data_shape)))
            raise ValueError(f"x has shape {tuple(x.shape)}; expected ({expected})")
        if x.layout is not torch.strided and not (x.layout is torch.sparse_csr and self._takes_csr):
            raise TypeError(f"x is {x.layout}; expected a dense batch: x.to_dense()")
        dtype = self._weight().dtype
        if x.dtype != torch.uint8 or are_whole(self.likelihood.data):
            return x.to(dtype)
        # A single pass over the bytes where the result is torch's default dtype anyway.
        return x * _BYTE if dtype == torch.get_default_dtype() else x.to(dtype) * _BYTE

    def decode(self, z: Tensor) -> Params:
        """Codes (..., *latent) to the parameters of p(x | z), (..., *input_shape).

        With conditions a code has that of its datum behind it, one-hot: (..., latent + conditions).

        Returns:
            The logits (Bernoulli), or the mean and the log-variance (Gaussian); of counts the
            logits of the shares (before the softmax) and, where zeros are inflated, of these; of
            classes the logits (*input_shape, K), in an order the location.
        """
        batch = z.shape[: z.dim() - len(self.latent_shape)]
        if len(batch) == 1:
            params: Params = self.likelihood(self.decoder(z))
            return params
        params = self.decode(z.reshape(-1, *z.shape[len(batch) :]))
        if isinstance(params, Tensor):
            return _unflatten(params, batch)
        return tuple(_unflatten(param, batch) for param in params)

    def conditional_log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """Log p(x | z) of each datum at codes of its own, in nats.

        Args:
            x: (B, *input_shape), floats or uint8.
            z: (*samples, B, *latent).

        Returns:
            (*samples, B).
        """
        return -self._conditional_nll(x, self.prepare(x), z)

    def _conditional_nll(self, x: Tensor, prepared: Tensor, z: Tensor) -> Tensor:
        """-log p(x | z); arguments as in `conditional_log_likelihood`, and x as floats."""
        params = self.decode(self._beside(z, prepared))
        batch_dims = z.dim() - len(self.latent_shape)
        target, measured = self.measured(x), self.measured(prepared)
        return self.likelihood.nll(params, target, measured, batch_dims, "sample")

    def _is_plain(self, x: Tensor) -> bool:
        """Whether the model's methods and likelihood may be left out for x: nobody will know."""
        is_fused = can_fuse(x) and not self.conditions
        return is_fused and as_written(self, self._methods) and _is_plain_head(self.likelihood)

    def _nll(self, code: Tensor, x: Tensor, prepared: Tensor, wide: WideDecoder | None) -> Tensor:
        """Negative log-likelihood of x given its codes (B, *latent), in nats per datum.

        Args:
            code: (B, *latent).
            x: the data as they came.
            prepared: the same as floats.
            wide: where the decoder ends in a layer with a large output, which is not made then:
                `vae_fast.linear_nll`.
        """
        if wide is None:
            return self.likelihood.nll(self.decode(code), x, prepared, 1, "batchmean")
        return self.likelihood.linear_nll(wide.body(code), wide.layer, x, prepared)

    def mean(self, params: Params) -> Tensor:
        """The expected x under p(x | z), from what `decode` gave; of counts for `library`.

        Of classes without an order the most probable one.
        """
        return self.likelihood.mean(params)

    def loss(
        self,
        x: Tensor,
        *,
        beta: float | Tensor = 1.0,
        free_bits: float = 0.0,
        generator: Generator | None = None,
    ) -> ELBO:
        """What training minimises, with its terms, in nats per datum: `forward`'s `return_loss`.

        Of the model itself. What wraps it (DistributedDataParallel, torch.compile's module) is
        called instead: ``wrapped(x, return_loss=True)``.

        Args:
            x: (B, *input_shape), floats or uint8; of counts and classes int32 or int64, too, and
                counts (B, D) in `torch.sparse_csr`.
            beta: weight of the KL term in the loss (Higgins et al. 2017); 1 is the bound itself.
            free_bits: nats of KL that each latent dimension has for nothing.
            generator: for the noise; None: torch's default one of the device. A list of them: one
                for each datum, as in `reparameterize`.

        Returns:
            loss = nll + beta * kl, and both terms unweighted. Of an auto-encoder, kl is zero.
        """
        terms: ELBO = self(x, return_loss=True, beta=beta, free_bits=free_bits, generator=generator)
        return terms

    def reconstruct(self, x: Tensor) -> Tensor:
        """The expected x under p(x | z) at the code of x, (B, *input_shape)."""
        raise NotImplementedError

    def embed(self, x: Tensor) -> Tensor:
        """One point in the code's space for each x, (B, *latent)."""
        raise NotImplementedError

    @torch.no_grad()
    def sample(self, n: int, *, generator: Generator | None = None) -> Tensor:
        """Decode `n` codes drawn from the prior: the expected x of each, (n, *input_shape).

        It is N(0, I), where the model's class does not say another.

        With conditions, under each of them in turn.

        Only a VAE has been trained to have its codes there; an auto-encoder has not, and the
        difference shows.

        Args:
            n: how many.
            generator: a CPU generator for the codes; None: torch's default one. A list of n of
                them: each code from its own, the same as where it is drawn alone.

        Raises:
            ValueError: a list of generators of another length than n.
        """
        if isinstance(generator, (list, tuple)):
            check_generators("sample", generator, torch.device("cpu"), n, "code")
            z = torch.cat([self.draw_codes(1, one) for one in generator])
        else:
            z = self.draw_codes(n, generator)
        in_turn = torch.arange(n, device=z.device) % max(1, len(self.conditions))
        z = self._beside(z, in_turn.unsqueeze(1))
        return self.mean(self.decode(z.to(self._weight())))

    def _beside(self, values: Tensor, x: Tensor) -> Tensor:
        """(..., B, D) with the one-hot condition of each datum of x behind, if there are any."""
        if not self.conditions:
            return values
        return with_codes(values, condition_numbers(x), len(self.conditions))

    def draw_codes(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Codes (n, *latent) as `sample` decodes them, without conditions: from N(0, I)."""
        return torch.randn(n, *self.latent_shape, generator=generator, device="cpu")


def register_output(kind: type[tuple[Any, ...]]) -> None:
    """Makes torch.export.save able to name a named tuple that a model returns."""
    _register_namedtuple(kind, serialized_type_name=f"{kind.__module__}.{kind.__qualname__}")


def _is_plain_head(likelihood: nn.Module) -> bool:
    """Whether a fused op computes it, and its forward and `nll` are what was written there."""
    return any(is_plain(likelihood) for is_plain in _plain_heads)


def _unflatten(tensor: Tensor, batch: torch.Size) -> Tensor:
    if tensor.dim() == 0:  # a parameter that all data share
        return tensor
    return tensor.reshape(*batch, *tensor.shape[1:])


def _shape(name: str, value: Shape) -> tuple[int, ...]:
    sizes = sizes_of(name, value if isinstance(value, Sequence) else (value,))
    if not sizes:
        raise ValueError(f"{name} is empty; expected at least one size")
    return sizes


def _names(name: str, values: Sequence[str]) -> tuple[str, ...]:
    """At least two different ones, or none; at most as many as bfloat16 holds one by one."""
    if isinstance(values, str) or not all(isinstance(value, str) for value in values):
        raise ValueError(f"{name} is {values!r}; expected names")
    if len(set(values)) != len(values) or len(values) == 1 or len(values) > _MOST_CONDITIONS:
        raise ValueError(
            f"{name} has {len(values)} names, {len(set(values))} different ones; expected from 2 "
            f"to {_MOST_CONDITIONS}, all different"
        )
    return tuple(values)


def sizes_of(name: str, values: Sequence[int]) -> tuple[int, ...]:
    """Whole numbers, of numpy too, as Python's."""
    if not all(isinstance(value, SupportsIndex) for value in values) or any(
        isinstance(value, bool) or operator.index(value) < 1 for value in values
    ):
        raise ValueError(f"{name} is {values!r}; expected positive whole numbers")
    return tuple(map(operator.index, values))
