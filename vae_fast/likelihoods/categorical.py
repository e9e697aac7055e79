"""The categorical likelihood: one of several classes, by their softmax."""

from __future__ import annotations

import torch
from torch import Tensor

from vae_fast.engine import checks
from vae_fast.engine.call import in_result_dtype, rowwise_loss
from vae_fast.engine.checks import shown
from vae_fast.engine.class_likelihood import ClassLikelihood
from vae_fast.engine.classes import check_classes, one_hot
from vae_fast.engine.likelihood import Params
from vae_fast.engine.reductions import Reduction
from vae_fast.engine.table import LikelihoodEntry, enter_likelihood

__all__ = ["categorical_nll"]


def categorical_nll(
    logits: Tensor,
    target: Tensor,
    *,
    mask: Tensor | None = None,
    batch_dims: int = 1,
    reduction: Reduction = "batchmean",
) -> Tensor:
    """Negative log-likelihood of one of K classes, in nats.

    -log softmax(l)_y, or of shares t_k of all classes -sum_k t_k log softmax(l)_k; the softmax goes
    over the last dimension. A logit of -infinity excludes its class: it costs nothing, but infinity
    where it is the target.

    It is :func:`multinomial_nll` of a single count, made of the class as a byte for each logit, and
    moves what that does: in float32 6 bytes for each logit, 10 with the gradient, which is computed
    in the forward. The elements, those of ``"none"`` and ``"mean"``, are the choices and not the
    logits.

    Args:
        logits: (*batch, *event, K), not normalised.
        target: Numbers of classes from 0 to K - 1, (*batch, *event), in uint8, bool, int32 or
            int64; or shares of the classes in a dtype of floats, (*batch, *event, K). Leading batch
            dimensions may be missing, as in :func:`bernoulli_nll`.
        mask: Which choices count: bool, broadcasts to (*batch, *event). Where it leaves one out the
            class may be any number, and logits and shares NaN.
        batch_dims: How many leading dimensions are batch.
        reduction: See :mod:`vae_fast`.

    Returns:
        The negative log-likelihood, reduced.

    Raises:
        TypeError: An argument has a wrong type or dtype.
        ValueError: The shapes do not agree, the devices differ, an unknown reduction, batch_dims
            beyond the dimensions of choices, or a number that is no class: on the CPU. In compiled
            code that is a RuntimeError, on a GPU an assertion of the device.
    """
    function = "categorical_nll"
    checks.check_operands(function, ("logits",), (logits,))
    if logits.dim() == 0 or logits.shape[-1] == 0:
        raise ValueError(f"{function}: logits has shape {shown(logits.shape)}, expected classes")
    choices = logits.detach()[..., 0]
    checks.check_public_reduction(function, reduction, batch_dims, (choices,))
    checks.check_operands(function, ("choices",), (choices,), mask)
    checks.check_tensor(function, "target", target)
    is_soft = target.is_floating_point()
    operands = (logits, target) if is_soft else (choices, target)
    names = ("logits" if is_soft else "choices", "target")
    checks.check_shapes(function, names, operands, None, batch_dims)
    checks.check_shapes(function, ("choices",), (choices,), mask, batch_dims)
    if is_soft:
        shares = target
    else:
        check_classes(function, target, logits, "logits")
        name, byte = f"{function}: target", torch.uint8
        shares = one_hot(name, target, mask, logits.shape[-1], byte)
    if mask is not None:
        counts = mask.unsqueeze(-1)
        logits, shares = torch.where(counts, logits, 0), torch.where(counts, shares, 0)
    rows: Reduction = reduction
    if reduction in ("none", "mean"):  # of the rows
        batch_dims, rows = choices.dim(), "sample" if reduction == "none" else "batchmean"
    value = rowwise_loss(function, "multinomial_nll", (logits, shares), batch_dims, rows)
    return in_result_dtype(value, logits, shares) if reduction == "none" else value


# ---- of a decoder --------------------------------------------------------------------------------


class CategoricalLikelihood(ClassLikelihood):
    """Each element of x is one of K classes, which have no order; of the logits of all of them.

    The encoder reads them one-hot, K numbers for each element, behind each other along dimension 1:
    a class's number would tell it of an order and of distances that there are not.
    """

    name = "categorical"

    def __init__(self, num_classes: int | None = None) -> None:
        super().__init__(num_classes)
        self.per_element = self.num_classes

    def forward(self, raw: Tensor) -> Tensor:
        """The logits, (B, *input_shape, K)."""
        return torch.unflatten(raw, 1, (-1, self.num_classes)).movedim(2, -1)

    def encoded(self, prepared: Tensor) -> Tensor:
        """One-hot, (B, `encoded_shape`)."""
        codes = one_hot("x", prepared, None, self.num_classes, prepared.dtype)
        return codes.movedim(-1, 2).flatten(1, 2)

    def encoded_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """K times as many along the first dimension."""
        return self.raw_shape(input_shape)

    def mean(self, params: Params) -> Tensor:
        """The most probable class: what has no order has no expectation."""
        assert isinstance(params, Tensor)
        return params.argmax(-1).to(params.dtype)


enter_likelihood(
    "categorical",
    LikelihoodEntry(categorical_nll, head=CategoricalLikelihood, own_shape=True),
)
