"""Calls of the losses of several samples that are refused, and what each says."""

import torch

import vae_fast as vf

ones = torch.ones(2, 3)
wide = torch.ones(3, 4)
integers = torch.ones(2, 3, dtype=torch.int64)
floats = "expected float32, float64, bfloat16 or float16"

# As in bad_calls.
CALLS = (
    (
        lambda: vf.importance_weighted_loss(ones, estimator="naive"),
        ValueError,
        "importance_weighted_loss: estimator is 'naive', expected 'elbo', 'iwae', ",
    ),
    (
        lambda: vf.importance_weighted_loss(integers),
        TypeError,
        f"importance_weighted_loss: log_weights has dtype torch.int64, {floats}",
    ),
    (
        lambda: vf.importance_weighted_loss(ones[:0]),
        ValueError,
        "importance_weighted_loss: log_weights has shape (0, 3), expected (K, *batch), with K at "
        "least 1",
    ),
    (
        lambda: vf.importance_weighted_loss(ones, reduction="average"),
        ValueError,
        "importance_weighted_loss: reduction is 'average', expected 'none'",
    ),
    (
        lambda: vf.importance_weighted_loss(ones, alpha=0.5),
        ValueError,
        "importance_weighted_loss: alpha is 0.5, which estimator 'iwae' lacks",
    ),
    (
        lambda: vf.importance_weighted_loss(ones, estimator="renyi"),
        ValueError,
        "importance_weighted_loss: alpha is missing, expected with estimator 'renyi'",
    ),
    (
        lambda: vf.importance_weighted_loss(ones, estimator="renyi", alpha=float("inf")),
        ValueError,
        "importance_weighted_loss: alpha is inf, expected a finite number",
    ),
    (
        lambda: vf.importance_weighted_loss(ones, estimator="ciwae", alpha=1.5),
        ValueError,
        "importance_weighted_loss: alpha is 1.5, expected 0 to 1",
    ),
    (
        lambda: vf.importance_weighted_loss(ones, estimator="ciwae", alpha="half"),
        TypeError,
        "importance_weighted_loss: alpha is of type str, expected float",
    ),
    (
        lambda: vf.importance_weighted_loss(ones, estimator="miwae"),
        ValueError,
        "importance_weighted_loss: groups is missing, expected with estimator 'miwae'",
    ),
    (
        lambda: vf.importance_weighted_loss(ones, estimator="miwae", groups=1.0),
        TypeError,
        "importance_weighted_loss: groups is of type float, expected int",
    ),
    (
        lambda: vf.importance_weighted_loss(ones, estimator="miwae", groups=3),
        ValueError,
        "importance_weighted_loss: groups is 3, expected a divisor of the number of samples, 2",
    ),
    (
        lambda: vf.importance_weighted_loss(ones[:1], estimator="vimco", log_q=ones[:1]),
        ValueError,
        "importance_weighted_loss: there is one sample, expected at least 2 with estimator "
        "'vimco', which compares each with the others",
    ),
    (
        lambda: vf.importance_weighted_loss(ones, estimator="stl"),
        ValueError,
        "importance_weighted_loss: log_q is missing, expected with estimator 'stl'",
    ),
    (
        lambda: vf.importance_weighted_loss(ones, estimator="dreg", log_q=ones),
        ValueError,
        "importance_weighted_loss: path is missing, expected with estimator 'dreg'",
    ),
    (
        lambda: vf.importance_weighted_loss(ones, log_q=ones),
        ValueError,
        "importance_weighted_loss: log_q is given, which estimator 'iwae' lacks",
    ),
    (
        lambda: vf.importance_weighted_loss(ones, estimator="stl", log_q=ones[:1]),
        ValueError,
        "importance_weighted_loss: log_q has shape (1, 3), expected (2, 3) for log_weights (2, 3)",
    ),
    (
        lambda: vf.importance_weighted_loss(ones, estimator="dreg", log_q=ones, path=ones),
        ValueError,
        "importance_weighted_loss: path has shape (2, 3), expected (2, 2, 3) for log_weights",
    ),
    (
        lambda: vf.importance_weighted_loss(ones, baseline=0.0),
        ValueError,
        "importance_weighted_loss: baseline is given, which estimator 'iwae' lacks",
    ),
    (
        lambda: vf.importance_weighted_loss(ones, estimator="reinforce", log_q=ones, baseline=wide),
        ValueError,
        "importance_weighted_loss: baseline has shape (3, 4), expected one that broadcasts to that",
    ),
    (
        lambda: vf.importance_weighted_loss(
            ones, estimator="reinforce", log_q=ones, baseline="mean"
        ),
        TypeError,
        "importance_weighted_loss: baseline is of type str, expected float or Tensor",
    ),
    (
        lambda: vf.mark_path([1.0]),
        TypeError,
        "mark_path: z is of type list, expected torch.Tensor",
    ),
    (
        lambda: vf.mark_path(integers),
        TypeError,
        f"mark_path: z has dtype torch.int64, {floats}",
    ),
    (
        lambda: vf.mark_path(ones, batch_dims=1.5),
        TypeError,
        "mark_path: batch_dims is of type float, expected int",
    ),
    (
        lambda: vf.mark_path(ones, batch_dims=3),
        ValueError,
        "mark_path: batch_dims is 3, expected 1 to 2, the number of dimensions of z (2, 3): "
        "samples, then batch",
    ),
)
