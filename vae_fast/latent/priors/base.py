"""What a prior p(z) is to a model: a module, which may have parameters that are learned."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vae_fast.latent.checks import check_generator


class Prior(nn.Module):
    """A prior p(z) of the latent dimensions of a datum.

    Its density is ``log_prob``; ``distribution`` is it as an object, for
    ``torch.distributions.kl_divergence``. A subclass has that, or log_prob and ``_draw``.

    Example:
        >>> from vae_fast.latent import priors
        >>> isinstance(priors.StandardNormal(2), priors.Prior)
        True
    """

    def distribution(self) -> Distribution | None:
        """As a distribution, whose event are the latent dimensions; None: it is none of torch's."""
        return None

    def _whole(self) -> Distribution:
        whole = self.distribution()
        assert whole is not None, "a prior without a distribution has log_prob and _draw"
        return whole

    def log_prob(self, z: Tensor) -> Tensor:
        """Of z (*batch, *latent): (*batch), in nats, summed over the latent dimensions."""
        log_prob: Tensor = self._whole().log_prob(z)
        return log_prob

    def sample(self, shape: Sequence[int] = (), generator: torch.Generator | None = None) -> Tensor:
        """Samples (*shape, *latent), without a gradient.

        Args:
            shape: How many.
            generator: Of the CPU or the prior's device; None: torch's default ones.

        Raises:
            TypeError: ``generator`` is none.
            ValueError: It is on another device.
        """
        device = next((x.device for x in (*self.parameters(), *self.buffers())), None)
        device = torch.device("cpu") if device is None else device
        check_generator(f"{type(self).__name__}.sample", generator, device)
        with torch.no_grad(), _drawn_from(generator, device):
            return self._draw(torch.Size(shape))

    def _draw(self, shape: torch.Size) -> Tensor:
        return self._whole().sample(shape)


@contextmanager
def _drawn_from(generator: torch.Generator | None, device: torch.device) -> Iterator[None]:
    """Torch's default generators, seeded from one that is given, and put back."""
    if generator is None:
        yield
        return
    seed = torch.randint(2**63 - 1, (), generator=generator, device=generator.device)
    gpus = [] if device.type == "cpu" else [device]
    with torch.random.fork_rng(gpus, device_type="cuda" if not gpus else device.type):
        torch.manual_seed(int(seed))
        yield


class FixedPrior(Prior):
    """A prior whose parameters are not learned, of any distribution.

    Args:
        kind: The distribution, or what makes it of the parameters and ``validate_args``.
        parameters: Its parameters by their names, which become buffers.

    Example:
        >>> import torch
        >>> from vae_fast.latent.posteriors import Dirichlet
        >>> from vae_fast.latent.priors import FixedPrior
        >>> prior = FixedPrior(Dirichlet, concentration=torch.ones(3))
        >>> prior.log_prob(torch.tensor([0.2, 0.3, 0.5])), prior.sample((4,)).shape
        (tensor(0.6931), torch.Size([4, 3]))
    """

    def __init__(self, kind: Callable[..., Distribution], **parameters: Tensor) -> None:
        super().__init__()
        self._kind = kind
        self._names = tuple(parameters)
        if not any(parameter.is_meta for parameter in parameters.values()):
            kind(**parameters)  # which looks at their values, once
        for name, parameter in parameters.items():
            self.register_buffer(name, parameter)

    def distribution(self) -> Distribution:
        """Of the buffers as they are."""
        parameters = {name: getattr(self, name) for name in self._names}
        return self._kind(**parameters, validate_args=False)
