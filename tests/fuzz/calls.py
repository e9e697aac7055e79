"""The functions: how a call of each is drawn, and what is right for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import vae_fast as vf
from tests.case import Case
from tests.cases import CASE_OF_OP, LIKELIHOOD_CASES, REDUCTIONS
from tests.fuzz import exact
from tests.fuzz.draws import Source
from vae_fast.engine.table import LIKELIHOODS, LOSSES

Gradients = dict[str, exact.Result | None]


@dataclass
class Call:
    """A call with its arguments by name, and the oracle.

    ``values`` gives the right outputs, ``gradients`` those of the arguments that it names, from
    the upstream gradients of the outputs in float64. ``integers`` are what its target may be
    besides a float.
    """

    function: Callable[..., Any]
    arguments: dict[str, Any]
    values: Callable[[], list[exact.Result]]
    gradients: Callable[[list[Tensor]], Gradients]
    integers: tuple[torch.dtype, ...] = ()

    @property
    def wanted(self) -> dict[str, Tensor]:
        return {name: x for name, x in self.arguments.items() if is_wanted(x)}

    def __str__(self) -> str:
        text = ", ".join(f"{name}={_described(x)}" for name, x in self.arguments.items())
        return f"{getattr(self.function, '__name__', self.function)}({text})"


def is_wanted(x: Any) -> bool:
    return isinstance(x, Tensor) and x.requires_grad


def _described(x: Any) -> str:
    if not isinstance(x, Tensor):
        return str(x)
    dtype = str(x.dtype).removeprefix("torch.")
    neg = ", neg" if x.is_neg() else ""
    wanted = ", grad" if x.requires_grad else ""
    return f"<{dtype} {tuple(x.shape)} strides {x.stride()}{neg}{wanted}>"


def _added(one: Gradients, other: Gradients, dtypes: dict[str, torch.dtype] | None) -> Gradients:
    """The gradients of two outputs; of two nodes, each is stored before they are added."""
    total = one | other
    for name in one.keys() & other.keys():
        left, right = one[name], other[name]
        if left is None or right is None:
            continue  # not wanted
        if dtypes is not None:
            left, right = left.stored(dtypes[name]), right.stored(dtypes[name])
        total[name] = left + right
    return total


def _of_one_term(
    function: Callable[..., Any],
    arguments: dict[str, Any],
    names: Sequence[str],
    term: exact.Term,
    floor: exact.Floor | None = None,
    integers: tuple[torch.dtype, ...] = (),
) -> Call:
    """A call whose output is one reduced term of the arguments called ``names``."""
    how = (arguments["reduction"], arguments["batch_dims"], 0, floor)
    return Call(
        function,
        arguments,
        lambda: [term.reduced(*how)],
        lambda upstream: dict(zip(names, term.gradients(upstream[:1], *how), strict=True)),
        integers,
    )


def _batch_and_reduction(source: Source, dims: int, least_event: int = 0) -> dict[str, Any]:
    batch_dims = source.whole(0, max(dims - least_event, 0))
    return {"batch_dims": batch_dims, "reduction": source.one_of(REDUCTIONS)}


# ---- likelihoods ---------------------------------------------------------------------------------


def _likelihood(case: Case) -> Callable[[Source], Call]:
    """Of a row: its first operand has the whole shape, its target may lack batch dimensions."""
    first, *others, last = case.names

    def public(**arguments: Any) -> Tensor:
        operands = [arguments.pop(name) for name in case.names]
        return case.public(*operands, **arguments)

    def draw(source: Source) -> Call:
        shape, dtypes = source.shape(), source.dtypes(len(case.names))
        settings = _batch_and_reduction(source, len(shape))
        operands = {first: source.tensor(case.kinds[0], shape, dtypes[0])}
        for name, kind, dtype in zip(others, case.kinds[1:], dtypes[1:], strict=False):
            operands[name] = _parameter(source, kind, shape, dtype)
        of_target = source.behind_batch(shape, settings["batch_dims"])
        operands[last] = source.tensor(case.kinds[-1], of_target, dtypes[-1])
        arguments = {**operands, "mask": source.mask(shape), **settings}
        term = exact.elementwise(case.op, tuple(operands.values()), arguments["mask"])
        integers = LOSSES[case.op].integers
        return _of_one_term(public, arguments, case.names, term, integers=integers)

    public.__name__ = draw.__name__ = case.op
    return draw


def _parameter(source: Source, kind: str, shape: tuple[int, ...], dtype: torch.dtype) -> Any:
    """A tensor that broadcasts, or a number."""
    if source.is_so(0.2):
        return source.number(kind)
    return source.tensor(kind, source.fitting(shape), dtype)


def multinomial_nll(source: Source) -> Call:
    shape, dtypes = source.shape(least_dims=1), source.dtypes(2)
    settings = _batch_and_reduction(source, len(shape), least_event=1)
    logits = source.tensor("number", shape, dtypes[0])
    target = source.tensor("count", source.behind_batch(shape, settings["batch_dims"]), dtypes[1])
    if source.is_so(0.3):  # classes that are excluded, mostly without a count
        excluded = source.coins(shape, 0.2)
        wants = logits.requires_grad
        logits = logits.detach().masked_fill(excluded.to(logits.device), -torch.inf)
        logits.requires_grad_(wants)
        if target.shape == logits.shape and source.is_so(0.8):
            wants, target = target.requires_grad, target.detach()
            target = target.masked_fill(excluded.to(logits.device), 0).requires_grad_(wants)
    arguments = {"logits": logits, "target": target, **settings}
    term = exact.multinomial(logits, target)
    integers = LOSSES["multinomial_nll"].integers
    names = ("logits", "target")
    return _of_one_term(vf.multinomial_nll, arguments, names, term, integers=integers)


# ---- the code ------------------------------------------------------------------------------------


def _code(source: Source, shape: tuple[int, ...]) -> dict[str, Any]:
    dtypes = source.dtypes(4)
    code = {
        "mu": source.tensor("number", shape, dtypes[0]),
        "logvar": _parameter(source, "logvar", shape, dtypes[1]),
    }
    if source.is_so(0.4):
        code["prior_mu"] = _parameter(source, "number", shape, dtypes[2])
        code["prior_logvar"] = _parameter(source, "logvar", shape, dtypes[3])
    return code


def _divergence(code: dict[str, Any]) -> exact.Term:
    op = "gaussian_kl" if "prior_mu" in code else "standard_normal_kl"
    return exact.elementwise(op, tuple(code.values()))


def _code_settings(source: Source, shape: tuple[int, ...]) -> dict[str, Any]:
    settings = _batch_and_reduction(source, len(shape))
    while settings["reduction"] == "batchmean" and 0 < len(shape) == settings["batch_dims"]:
        settings = _batch_and_reduction(source, len(shape))
    return settings


def _free_bits(source: Source, settings: dict[str, Any]) -> exact.Floor | None:
    if source.is_so(0.8):
        return None
    per = source.one_of(("dimension", "group", "sample"))
    if per != "sample" and settings["reduction"] in ("none", "sample"):
        per = "sample"
    settings["free_bits"], settings["free_bits_per"] = 0.3125, per
    return exact.Floor(0.3125, per)


def gaussian_kl(source: Source) -> Call:
    shape = source.shape()
    code, settings = _code(source, shape), _code_settings(source, shape)
    floor = _free_bits(source, settings)
    term = _divergence(code)
    return _of_one_term(vf.gaussian_kl, {**code, **settings}, tuple(code), term, floor)


def _noise(source: Source) -> tuple[dict[str, Any], Tensor]:
    """Arguments that fix the noise, and its seed."""
    word = source.random.getrandbits(62)
    kind = source.one_of(("integer", "tensor", "generator"))
    if kind == "integer":
        return {"seed": word}, torch.tensor([[word, 0]], device="cpu")
    generator = torch.Generator("cpu").manual_seed(word)
    seed = vf.draw_seed(generator)
    if kind == "tensor":
        return {"seed": seed}, seed
    return {"generator": torch.Generator("cpu").manual_seed(word)}, seed


def reparameterize(source: Source) -> Call:
    shape, dtypes = source.shape(), source.dtypes(2)
    code = {
        "mu": source.tensor("number", shape, dtypes[0]),
        "logvar": _parameter(source, "logvar", shape, dtypes[1]),
    }
    noise, seed = _noise(source)
    samples = source.whole(1, 3) if source.is_so(0.3) else None
    whole = shape if samples is None else (samples, *shape)
    term = exact.sample(tuple(code.values()), whole, seed)
    arguments = {**code, **noise, "num_samples": samples}
    return Call(
        vf.reparameterize,
        arguments,
        lambda: [term.reduced("none", 0)],
        lambda upstream: dict(zip(code, term.gradients(upstream[:1], "none", 0), strict=True)),
    )


def reparameterize_kl(source: Source) -> Call:
    shape = source.shape()
    code, settings = _code(source, shape), _code_settings(source, shape)
    noise, seed = _noise(source)
    floor = _free_bits(source, settings)
    samples = source.whole(1, 3) if source.is_so(0.2) else None
    in_two = samples is not None or floor is not None
    in_z = tuple(code.values())[: 2 if in_two else 4]
    z = exact.sample(in_z, shape if samples is None else (samples, *shape), seed)
    kl = _divergence(code)
    how = (settings["reduction"], settings["batch_dims"], 0, floor)

    def gradients(upstream: list[Tensor]) -> Gradients:
        of_z = dict(zip(code, z.gradients(upstream[:1], "none", 0), strict=False))
        of_kl = dict(zip(code, kl.gradients(upstream[1:], *how), strict=True))
        dtypes = {n: x.dtype for n, x in code.items() if isinstance(x, Tensor)} if in_two else None
        return _added(of_z, of_kl, dtypes)

    return Call(
        vf.reparameterize_kl,
        {**code, **settings, **noise, "num_samples": samples},
        lambda: [z.reduced("none", 0), kl.reduced(*how)],
        gradients,
    )


# ---- the bound -----------------------------------------------------------------------------------


def _kinds(likelihood: str) -> tuple[str, ...]:
    """Of its parameters and the target."""
    case = CASE_OF_OP.get(f"{likelihood}_nll")
    return ("number", "count") if case is None else case.kinds  # the multinomial's are rows


# Of classes tests/test_classes.py tries.
_OF_NUMBERS = tuple(x for x, e in LIKELIHOODS.items() if not e.own_shape and x != "ordinal")


def elbo_loss(source: Source) -> Call:
    batch = source.shape(1, 1)
    event, latent = (3, 5) if source.is_so(0.5) else (17,), (source.whole(1, 9),)
    samples = source.one_of(((), (), (3,), (2, 2)))
    likelihood = source.one_of(_OF_NUMBERS)
    kinds, dtypes = _kinds(likelihood), source.dtypes(4)
    whole = (*batch, *event)
    target = source.tensor(kinds[-1], whole, dtypes[0])
    params: Any = source.tensor(kinds[0], (*samples, *whole), dtypes[1])
    code = _code(source, (*batch, *latent))
    mask = None if likelihood == "multinomial" else source.mask(whole)
    how = (source.one_of(REDUCTIONS[1:]), 1)
    names: tuple[str, ...] = ("params", "target")
    if likelihood == "multinomial":
        nll = exact.multinomial(params, target)
    else:
        case = CASE_OF_OP[f"{likelihood}_nll"]
        others = [
            source.tensor(kind, source.fitting(whole), dtype)
            for kind, dtype in zip(kinds[1:-1], dtypes[2:], strict=False)
        ]
        names = ("params", *(f"params_{name}" for name in case.names[1:-1]), "target")
        nll = exact.elementwise(case.op, (params, *others, target), mask)
    kl, beta, dims = _divergence(code), source.one_of((1.0, 0.25)), len(samples)
    arguments = {
        **dict(zip(names, nll.operands, strict=True)),
        **code,
        "likelihood": likelihood,
        "beta": beta,
        "mask": mask,
        "batch_dims": 1,
        "sample_dims": dims,
        "reduction": how[0],
    }

    def values() -> list[exact.Result]:
        of_nll, of_kl = nll.reduced(*how, dims), kl.reduced(*how)
        return [of_nll + of_kl.times(beta), of_nll, of_kl]

    def gradients(upstream: list[Tensor]) -> Gradients:
        of_nll = nll.gradients(upstream[:2], *how, dims)
        of_kl = kl.gradients([beta * upstream[0], upstream[2]], *how)
        return dict(zip(names, of_nll, strict=True)) | dict(zip(code, of_kl, strict=True))

    return Call(_elbo, arguments, values, gradients, LOSSES[f"{likelihood}_nll"].integers)


def _elbo(**arguments: Any) -> Any:
    names = [name for name in arguments if name.startswith("params")]
    params = tuple(arguments.pop(name) for name in names)
    return vf.elbo_loss(params if len(params) > 1 else params[0], **arguments)


# ---- a linear layer and its likelihood -----------------------------------------------------------


def linear_nll(source: Source) -> Call:
    batch = tuple(source.whole(0, 9) for _ in range(source.whole(0, 2)))
    inputs, outputs = source.whole(1, 9), source.whole(1, 17)
    dtype = source.one_of((torch.float32, torch.float64))
    h = source.tensor("number", (*batch, inputs), dtype)
    weight = source.tensor("number", (outputs, inputs), dtype)
    bias = source.tensor("number", (outputs,), dtype) if source.is_so(0.7) else None
    likelihood = source.one_of(("bernoulli", "gaussian", "multinomial"))
    target = source.tensor(_kinds(likelihood)[-1], (*batch, outputs), dtype)
    arguments: dict[str, Any] = {"h": h, "weight": weight, "bias": bias, "target": target}
    if likelihood == "gaussian":
        shape = source.one_of(((), (outputs,)))
        arguments["logvar"] = 0.3 if source.is_so(0.2) else source.tensor("logvar", shape, dtype)
    if likelihood != "multinomial":
        arguments["mask"] = source.mask((*batch, outputs))
    reduction = source.one_of(REDUCTIONS)
    term = exact.of_linear(likelihood, exact.linear(h, weight, bias), arguments)
    how = (reduction, len(batch))
    return Call(
        vf.linear_nll,
        {**arguments, "likelihood": likelihood, "reduction": reduction},
        lambda: [term.reduced(*how)],
        lambda upstream: exact.through_linear(h, weight, bias, term.gradients(upstream, *how)),
        LOSSES[f"{likelihood}_nll"].integers,
    )


FUNCTIONS: tuple[Callable[[Source], Call], ...] = (
    *(_likelihood(case) for case in LIKELIHOOD_CASES),
    multinomial_nll,
    gaussian_kl,
    reparameterize,
    reparameterize_kl,
    elbo_loss,
    linear_nll,
)
