"""The VampPrior."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

from vae_fast.engine.checks import FLOATS, check_kind, check_tensor, shown
from vae_fast.latent.checks import check_count, check_generator
from vae_fast.latent.priors.mixture_of_gaussians import GaussianMixture


class VampPrior(GaussianMixture):
    """The posteriors of K pseudo-inputs, which are learned, in equal parts.

    Tomczak and Welling 2018, "VAE with a VampPrior" (arXiv:1705.07120), equation 9: the aggregated
    posterior, of few data. Each evaluation encodes the pseudo-inputs, with gradients in them and
    in the encoder.

    The encoder is the model's own: it is called, and is no part of this module, whose only
    parameter are the pseudo-inputs.

    Args:
        encode: Gives (mu, logvar), each (K, D), of the pseudo-inputs.
        pseudo_inputs: What they are at first (K, *input_shape), floats. See ``from_data`` and
            ``from_noise``.

    Raises:
        TypeError: pseudo_inputs is no tensor of floats.
        ValueError: It holds none.

    Example:
        >>> import torch
        >>> from vae_fast.latent.priors import VampPrior
        >>> layer, data = torch.nn.Linear(8, 4), torch.rand(100, 8)
        >>> prior = VampPrior.from_data(lambda x: layer(x).chunk(2, -1), data, count=10)
        >>> prior.log_prob(torch.zeros(3, 2)).shape, prior.sample((4,)).shape
        (torch.Size([3]), torch.Size([4, 2]))
        >>> [(name, x.shape) for name, x in prior.named_parameters()]
        [('pseudo_inputs', torch.Size([10, 8]))]
    """

    def __init__(
        self, encode: Callable[[Tensor], tuple[Tensor, Tensor]], pseudo_inputs: Tensor
    ) -> None:
        super().__init__()
        check_tensor("VampPrior", "pseudo_inputs", pseudo_inputs)
        check_kind("VampPrior", "pseudo_inputs", pseudo_inputs, FLOATS, "itself", pseudo_inputs)
        if pseudo_inputs.dim() < 2 or not pseudo_inputs.shape[0]:
            raise ValueError(
                f"VampPrior: pseudo_inputs has shape {shown(pseudo_inputs.shape)}, expected "
                f"(K, *input_shape), one or more"
            )
        self._encode = (encode,)  # a module in a tuple is no submodule
        self.pseudo_inputs = nn.Parameter(pseudo_inputs.detach().clone())

    @classmethod
    def from_data(
        cls,
        encode: Callable[[Tensor], tuple[Tensor, Tensor]],
        data: Tensor,
        count: int,
        generator: torch.Generator | None = None,
    ) -> Self:
        """Pseudo-inputs that are data at first, drawn without replacement.

        Args:
            encode: As of the class.
            data: (N, *input_shape), floats.
            count: K, at most N.
            generator: Of the CPU; None: torch's default one.

        Raises:
            TypeError: An argument has a wrong type.
            ValueError: There are fewer data.
        """
        check_tensor("VampPrior.from_data", "data", data)
        check_count("VampPrior.from_data", "count", count)
        check_generator("VampPrior.from_data", generator, torch.device("cpu"))
        if count > len(data):
            raise ValueError(
                f"VampPrior.from_data: count is {count}, expected at most {len(data)}, the number "
                f"of data"
            )
        chosen = torch.randperm(len(data), generator=generator)[:count]
        return cls(encode, data[chosen.to(data.device)])

    @classmethod
    def from_noise(
        cls,
        encode: Callable[[Tensor], tuple[Tensor, Tensor]],
        mean: Tensor,
        count: int,
        std: float,
        generator: torch.Generator | None = None,
    ) -> Self:
        """Pseudo-inputs around the data's mean at first.

        Args:
            encode: As of the class.
            mean: (*input_shape), floats.
            count: K.
            std: Of the normal noise that is added to the mean.
            generator: Of the CPU or mean's device; None: torch's default one.

        Raises:
            TypeError: An argument has a wrong type.
            ValueError: ``count`` is not positive.
        """
        check_tensor("VampPrior.from_noise", "mean", mean)
        check_count("VampPrior.from_noise", "count", count)
        check_generator("VampPrior.from_noise", generator, mean.device)
        device = mean.device if generator is None else generator.device
        noise = torch.randn((count, *mean.shape), generator=generator, device=device)
        return cls(encode, mean + std * noise.to(mean))

    def components(self) -> tuple[Tensor, Tensor, None]:
        """The posteriors of the pseudo-inputs."""
        mu, logvar = self._encode[0](self.pseudo_inputs)
        return mu, logvar, None
