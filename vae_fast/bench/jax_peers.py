"""JAX as a contestant: the same computations, compiled by XLA. The only file that imports JAX.

Everything is what JAX's users write: pure functions in float32 under `jit`, random numbers from its
own generator (threefry), outputs waited for.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# XLA makes its pool of threads once, as wide as this says; beside peers that torch gave fewer
# threads than the machine has, it gets no more of them.
os.environ.setdefault("NPROC", str(torch.get_num_threads()))
# XLA takes three quarters of a GPU's memory at once, which the other contestants need.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import jax.numpy as jnp

from vae_fast.bench.cases import Case
from vae_fast.bench.training import PIXELS, PlainVAE

Array = Any  # jax.Array, for readers: mypy does not see into JAX, which may not be there

VERSION: str = jax.__version__
_PLATFORMS = {"cpu": "cpu", "cuda": "gpu"}


def has(device: str) -> bool:
    """Whether this JAX computes on "cpu" or "cuda"."""
    try:
        jax.devices(_PLATFORMS[device])
    except RuntimeError:
        return False
    return True


def _array(x: Tensor, device: str) -> Array:
    """A copy on the device; through float32, because NumPy has no bfloat16."""
    values = x.detach().cpu().float().numpy()
    dtype = str(x.dtype).removeprefix("torch.")
    return jax.device_put(jnp.asarray(values, dtype), jax.devices(_PLATFORMS[device])[0])


# ---- the functions: each takes a random key and the operands -------------------------------------


def _batch_mean(elementwise: Callable[..., Array]) -> Callable[..., Array]:
    def nll(_key: Array, *operands: Array) -> Array:
        *parameters, target = operands
        if target.dtype == jnp.uint8:
            target = target.astype(jnp.float32) / 255
        return elementwise(*parameters, target).sum() / len(target)

    return nll


def _bernoulli_nll(logits: Array, target: Array) -> Array:
    """As optax writes it; `jax.nn.softplus` is slower."""
    return jnp.maximum(logits, 0) - logits * target + jnp.log1p(jnp.exp(-jnp.abs(logits)))


def _gaussian_nll(mean: Array, logvar: Array, target: Array) -> Array:
    return 0.5 * (math.log(2 * math.pi) + logvar + (target - mean) ** 2 * jnp.exp(-logvar))


def _multinomial_nll(logits: Array, target: Array) -> Array:
    return -target * jax.nn.log_softmax(logits)


def _gaussian_kl(_key: Array, mu: Array, logvar: Array) -> Array:
    return -0.5 * jnp.sum(1 + logvar - mu**2 - jnp.exp(logvar)) / len(mu)


def _reparameterize(key: Array, mu: Array, logvar: Array) -> Array:
    return mu + jax.random.normal(key, mu.shape, mu.dtype) * jnp.exp(0.5 * logvar)


def _reparameterize_kl(key: Array, mu: Array, logvar: Array) -> tuple[Array, Array]:
    return _reparameterize(key, mu, logvar), _gaussian_kl(key, mu, logvar)


def _pairwise_log_prob(x: Array, mean: Array, logvar: Array) -> Array:
    return -_gaussian_nll(mean, logvar, x[:, None])


def _gaussian_mixture_log_prob(_key: Array, x: Array, mean: Array, logvar: Array) -> Array:
    each = _pairwise_log_prob(x, mean, logvar).sum(2)
    return jnp.sum(jax.scipy.special.logsumexp(each, 1) - math.log(len(mean)))


def _aggregated_posterior_log_prob(_key: Array, z: Array, mu: Array, logvar: Array) -> Array:
    each, shift = _pairwise_log_prob(z, mu, logvar), math.log(len(mu))
    log_sum_exp = jax.scipy.special.logsumexp
    return jnp.sum(log_sum_exp(each.sum(2), 1) - shift) + jnp.sum(log_sum_exp(each, 1) - shift)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "bernoulli_nll": _batch_mean(_bernoulli_nll),
    "gaussian_nll": _batch_mean(_gaussian_nll),
    "multinomial_nll": _batch_mean(_multinomial_nll),
    "gaussian_kl": _gaussian_kl,
    "gaussian_mixture_log_prob": _gaussian_mixture_log_prob,
    "aggregated_posterior_log_prob": _aggregated_posterior_log_prob,
    "reparameterize": _reparameterize,
    "reparameterize_kl": _reparameterize_kl,
}


def kernel_peer(case: Case, inputs: list[Tensor], device: str) -> Callable[[], Any]:
    """A case's outputs and gradients by one compiled function.

    z's upstream gradient is an argument of that function, so XLA need not write z before the
    backward: less work than in a model, where the decoder comes between.

    Raises:
        KeyError: the case's function is not in FUNCTIONS.
    """
    function = FUNCTIONS[case.op]
    arrays = [_array(x, device) for x in inputs]
    variables = sum(x.requires_grad for x in inputs)  # they come first
    key = jax.device_put(jax.random.key(0), jax.devices(_PLATFORMS[device])[0])

    def forward_backward(key: Array, upstream: Any, *arrays: Array) -> Any:
        data = arrays[variables:]
        outputs, pull_back = jax.vjp(lambda *v: function(key, *v, *data), *arrays[:variables])
        return outputs, pull_back(upstream)

    shapes = jax.eval_shape(function, key, *arrays)
    upstream = jax.tree.map(lambda x: jnp.ones(x.shape, x.dtype), shapes)
    compiled = jax.jit(forward_backward)
    return lambda: jax.block_until_ready(compiled(key, upstream, *arrays))


# ---- training ------------------------------------------------------------------------------------

_RATE, _BETA1, _BETA2, _EPSILON = 1e-3, 0.9, 0.999, 1e-8  # torch.optim.Adam's defaults


def _linear(layer: tuple[Array, Array], h: Array) -> Array:
    weight, bias = layer
    return h @ weight + bias


def _loss(layers: list[tuple[Array, Array]], key: Array, x: Array) -> Array:
    """PlainVAE's."""
    hidden, mu, logvar, decoder_hidden, logits = layers
    h = jax.nn.relu(_linear(hidden, x))
    z, kl = _reparameterize_kl(key, _linear(mu, h), _linear(logvar, h))
    decoded = _linear(logits, jax.nn.relu(_linear(decoder_hidden, z)))
    return _bernoulli_nll(decoded, x).sum() / len(x) + kl


def adam_step(state: Any, x: Array) -> Any:
    """The next state: layers, first and second moments, how many steps, the random key."""
    layers, first, second, count, key = state
    key, noise = jax.random.split(key)
    gradients = jax.grad(_loss)(layers, noise, x)
    count = count + 1
    first = jax.tree.map(lambda m, g: _BETA1 * m + (1 - _BETA1) * g, first, gradients)
    second = jax.tree.map(lambda v, g: _BETA2 * v + (1 - _BETA2) * g**2, second, gradients)
    rate = _RATE / (1 - _BETA1**count)
    unbias = 1 / (1 - _BETA2**count)
    layers = jax.tree.map(
        lambda w, m, v: w - rate * m / (jnp.sqrt(v * unbias) + _EPSILON), layers, first, second
    )
    return layers, first, second, count, key


def _epoch_step(state: Any, images: Array, rows: Array) -> Any:
    return adam_step(state, images[rows].astype(jnp.float32) / 255)


def first_state(model: PlainVAE, device: str) -> Any:
    """`adam_step`'s, with the model's weights as (in, out), the way that JAX's layers have them."""
    parameters = [_array(parameter.t(), device) for parameter in model.parameters()]
    layers = list(zip(parameters[::2], parameters[1::2], strict=True))
    first, second = (jax.tree.map(jnp.zeros_like, layers) for _ in range(2))
    return layers, first, second, jnp.zeros(()), jax.random.key(0)


def step_peer(device: str, batch: int) -> Callable[[], Any]:
    """One Adam step of the same model on the same batch; the old state's memory is given away."""
    x = _array(torch.rand(batch, PIXELS), device)
    step = jax.jit(adam_step, donate_argnums=0)
    state = first_state(PlainVAE(), device)

    def run() -> None:
        nonlocal state
        state = jax.block_until_ready(step(state, x))

    return run


def epoch_peer(device: str, data: Tensor, batch: int) -> Callable[[], Any]:
    """One epoch: the images stay uint8 on the device, a shuffled batch of them is gathered."""
    images = _array(data, device)
    step = jax.jit(_epoch_step, donate_argnums=0)
    state = first_state(PlainVAE(), device)

    def run() -> None:
        nonlocal state
        for rows in torch.randperm(len(data)).split(batch):  # type: ignore[no-untyped-call]
            state = step(state, images, rows.numpy())
        jax.block_until_ready(state)

    return run
