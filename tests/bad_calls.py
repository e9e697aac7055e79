"""Calls that are refused, and what each says."""

import torch

import vae_fast as vf

ones = torch.ones(2, 3)
wide = torch.ones(3, 4)
integers = torch.ones(2, 3, dtype=torch.int64)
elsewhere = torch.ones(2, 3, device="meta")
floats = "expected float32, float64, bfloat16 or float16"

# What each function says: the call, the exception, the message.
CALLS = (
    (
        lambda: vf.bernoulli_nll(ones, wide),
        ValueError,
        "bernoulli_nll: target has shape (3, 4), "
        "expected a shape that broadcasts with logits (2, 3)",
    ),
    (
        lambda: vf.bernoulli_nll(ones, elsewhere),
        ValueError,
        f"bernoulli_nll: target is on meta, expected {ones.device} like logits",
    ),
    (
        lambda: vf.bernoulli_nll(ones, integers),
        TypeError,
        "bernoulli_nll: target has dtype torch.int64, "
        "expected float32, float64, bfloat16, float16, uint8 or bool",
    ),
    (
        lambda: vf.bernoulli_nll(ones, ones, mask=ones),
        TypeError,
        "bernoulli_nll: mask has dtype torch.float32, expected bool",
    ),
    (
        lambda: vf.bernoulli_nll(ones, ones, mask=wide > 0),
        ValueError,
        "bernoulli_nll: mask has shape (3, 4), expected a shape that broadcasts with logits (2, 3)",
    ),
    (
        lambda: vf.bernoulli_nll(ones, ones, mask=[True]),
        TypeError,
        "bernoulli_nll: mask is of type list, expected torch.Tensor",
    ),
    (
        lambda: vf.bernoulli_nll(ones, ones, mask=elsewhere > 0),
        ValueError,
        f"bernoulli_nll: mask is on meta, expected {ones.device} like logits",
    ),
    (
        lambda: vf.bernoulli_nll(ones, ones, reduction="average"),
        ValueError,
        "bernoulli_nll: reduction is 'average', "
        "expected 'none', 'sample', 'sum', 'batchmean' or 'mean'",
    ),
    (
        lambda: vf.gaussian_nll(ones, ones, reduction=None),
        TypeError,
        "gaussian_nll: reduction is of type NoneType, expected str",
    ),
    (
        lambda: vf.bernoulli_nll(ones, ones, batch_dims=3),
        ValueError,
        "bernoulli_nll: batch_dims is 3, expected 0 to 2, the number of dimensions",
    ),
    (
        lambda: vf.gaussian_kl(ones, ones, batch_dims=-1, reduction="sample"),
        ValueError,
        "gaussian_kl: batch_dims is -1, expected 0 to 2, the number of dimensions",
    ),
    (
        lambda: vf.gaussian_kl(ones, ones, batch_dims=1.0, reduction="none"),
        TypeError,
        "gaussian_kl: batch_dims is of type float, expected int",
    ),
    (
        lambda: vf.gaussian_nll(ones, ones, batch_dims=1.0),
        TypeError,
        "gaussian_nll: batch_dims is of type float, expected int",
    ),
    (
        lambda: vf.gaussian_nll(ones, ones, "0"),
        TypeError,
        "gaussian_nll: logvar is of type str, expected torch.Tensor",
    ),
    (
        lambda: vf.gaussian_kl(ones, ones, ones),
        ValueError,
        "gaussian_kl: prior_logvar is missing, expected both or neither",
    ),
    (
        lambda: vf.reparameterize_kl(ones, ones, None, ones),
        ValueError,
        "reparameterize_kl: prior_mu is missing, expected both or neither",
    ),
    (
        lambda: vf.gaussian_kl(ones, ones, free_bits=-0.5),
        ValueError,
        "gaussian_kl: free_bits is -0.5, expected at least 0 (nats)",
    ),
    (
        lambda: vf.gaussian_kl(ones, ones, free_bits=float("nan")),
        ValueError,
        "gaussian_kl: free_bits is nan, expected at least 0 (nats)",
    ),
    (
        lambda: vf.gaussian_kl(ones, ones, free_bits="1"),
        TypeError,
        "gaussian_kl: free_bits is of type str, expected float",
    ),
    (
        lambda: vf.gaussian_kl(ones, ones, free_bits_per="batch"),
        ValueError,
        "gaussian_kl: free_bits_per is 'batch', expected 'dimension', 'group' or 'sample'",
    ),
    (
        lambda: vf.gaussian_kl(ones, ones, free_bits=1.0, reduction="sample"),
        ValueError,
        "gaussian_kl: reduction is 'sample', which keeps the batch",
    ),
    (
        lambda: vf.gaussian_kl(ones, ones, free_bits=1.0, reduction="all"),
        ValueError,
        "gaussian_kl: reduction is 'all', expected 'none'",
    ),
    (
        lambda: vf.gaussian_kl(ones, ones, free_bits=1.0, batch_dims=3),
        ValueError,
        "gaussian_kl: batch_dims is 3, expected 0 to 2",
    ),
    (
        lambda: vf.reparameterize(ones, wide),
        ValueError,
        "reparameterize: logvar has shape (3, 4), expected a shape that broadcasts with mu (2, 3)",
    ),
    (
        lambda: vf.reparameterize(ones, "0"),
        TypeError,
        "reparameterize: logvar is of type str, expected torch.Tensor",
    ),
    (
        lambda: vf.reparameterize(0.0, ones),
        TypeError,
        "reparameterize: mu is of type float, expected torch.Tensor",
    ),
    (
        lambda: vf.reparameterize(integers, ones),
        TypeError,
        f"reparameterize: mu has dtype torch.int64, {floats}",
    ),
    (
        lambda: vf.reparameterize(ones, ones, num_samples=0),
        ValueError,
        "reparameterize: num_samples is 0, expected at least 1",
    ),
    (
        lambda: vf.reparameterize(ones, ones, num_samples=2.0),
        TypeError,
        "reparameterize: num_samples is of type float, expected int or None",
    ),
    (
        lambda: vf.reparameterize_kl(ones, ones, num_samples=-1),
        ValueError,
        "reparameterize_kl: num_samples is -1, expected at least 1",
    ),
    (
        lambda: vf.reparameterize(ones, ones, generator=torch.Generator(), seed=1),
        ValueError,
        "reparameterize: generator and seed are both given, expected at most one",
    ),
    (
        lambda: vf.reparameterize_kl(ones, ones, generator=7),
        TypeError,
        "reparameterize_kl: generator is of type int, expected torch.Generator",
    ),
    (
        lambda: vf.reparameterize(ones, ones, generator=[torch.Generator()]),
        ValueError,
        "reparameterize: generator is a list of 1, expected 2: one for each entry of the first "
        "dimension of mu (2, 3)",
    ),
    (
        lambda: vf.reparameterize(ones[0, 0], ones[0, 0], generator=[torch.Generator()]),
        ValueError,
        "reparameterize: generator is a list of 1, expected 0",
    ),
    (
        lambda: vf.reparameterize_kl(ones, ones, generator=[torch.Generator(), 7]),
        TypeError,
        "reparameterize_kl: generator[1] is of type int, expected torch.Generator",
    ),
    (
        lambda: vf.reparameterize(ones, ones, generator=(torch.Generator(), None)),
        TypeError,
        "reparameterize: generator[1] is None, expected torch.Generator",
    ),
    (
        lambda: vf.reparameterize(ones, ones, num_samples=2, generator=[torch.Generator()] * 2),
        ValueError,
        "reparameterize: num_samples and a list as generator are both given, expected at most one",
    ),
    (
        lambda: vf.reparameterize_kl(ones, ones, num_samples=2, generator=[torch.Generator()] * 2),
        ValueError,
        "reparameterize_kl: num_samples and a list as generator are both given",
    ),
    (
        lambda: vf.reparameterize(ones, ones, generator=[torch.Generator()] * 2, seed=1),
        ValueError,
        "reparameterize: generator and seed are both given, expected at most one",
    ),
    (
        lambda: vf.draw_seed([]),
        ValueError,
        "draw_seed: generator is an empty list, expected one or more",
    ),
    (
        lambda: vf.draw_seed([torch.Generator(), "cpu"]),
        TypeError,
        "draw_seed: generator[1] is of type str, expected torch.Generator",
    ),
    (
        lambda: vf.reparameterize(ones, ones, seed=torch.zeros(4, 2, dtype=torch.int64)),
        ValueError,
        "reparameterize: seed has shape (4, 2), expected (1, 2), or (R, 2): one row for each of R "
        "equal parts of z of shape (2, 3), in order",
    ),
    (
        lambda: vf.reparameterize(ones),
        TypeError,
        "reparameterize: logvar is of type NoneType, expected torch.Tensor or a number, or scale",
    ),
    (
        lambda: vf.gaussian_kl(ones),
        TypeError,
        "gaussian_kl: logvar is of type NoneType, expected torch.Tensor or a number, or scale",
    ),
    (
        lambda: vf.reparameterize_kl(ones, ones, scale=1.0),
        ValueError,
        "reparameterize_kl: logvar and scale are both given, expected one of them",
    ),
    (
        lambda: vf.gaussian_nll(ones, ones, ones, scale=ones),
        ValueError,
        "gaussian_nll: logvar and scale are both given, expected one of them",
    ),
    (
        lambda: vf.gaussian_nll(ones, ones, scale=wide),
        ValueError,
        "gaussian_nll: scale has shape (3, 4), expected a shape that broadcasts with mean (2, 3)",
    ),
    (
        lambda: vf.reparameterize(ones, scale=ones[None]),
        ValueError,
        "reparameterize: scale has shape (1, 2, 3), expected one that broadcasts to that of mu",
    ),
    (
        lambda: vf.gaussian_kl(ones, scale="1"),
        TypeError,
        "gaussian_kl: scale is of type str, expected torch.Tensor",
    ),
    (
        lambda: vf.gaussian_kl(ones, scale=integers),
        TypeError,
        f"gaussian_kl: scale has dtype torch.int64, {floats}",
    ),
    (
        lambda: vf.reparameterize_kl(1.0, scale=1.0),
        TypeError,
        "reparameterize_kl: mu is of type float, expected torch.Tensor",
    ),
    (
        lambda: vf.reparameterize(ones, ones, noise=1.0),
        TypeError,
        "reparameterize: noise is of type float, expected torch.Tensor",
    ),
    (
        lambda: vf.reparameterize(ones, ones, noise=wide),
        ValueError,
        "reparameterize: noise has shape (3, 4), expected (2, 3)",
    ),
    (
        lambda: vf.reparameterize(ones, ones, noise=ones, seed=1),
        ValueError,
        "reparameterize: noise and seed are both given, expected at most one",
    ),
    (
        lambda: vf.reparameterize(ones, ones, noise=ones, num_samples=2),
        ValueError,
        "reparameterize: noise and num_samples are both given, expected at most one",
    ),
    (
        lambda: vf.reparameterize(ones, ones, noise=ones, generator=torch.Generator()),
        ValueError,
        "reparameterize: noise and generator are both given, expected at most one",
    ),
    (
        lambda: vf.draw_seed("cpu"),
        TypeError,
        "draw_seed: generator is of type str, expected torch.Generator",
    ),
    (
        lambda: vf.reparameterize(ones, ones, seed=2.0),
        TypeError,
        "reparameterize: seed is of type float, expected int or what draw_seed() returns",
    ),
    (
        lambda: vf.reparameterize(ones, ones, seed=2**63),
        ValueError,
        "reparameterize: seed is 9223372036854775808, expected an integer of 64 bits",
    ),
    (
        lambda: vf.reparameterize(ones, ones, seed=torch.zeros(2, dtype=torch.int64)),
        ValueError,
        "reparameterize: seed has shape (2,), expected (1, 2), or (R, 2): one row for each of R "
        "equal parts of z of shape (2, 3), in order",
    ),
    (
        lambda: vf.reparameterize_kl(ones, ones, seed=torch.zeros(1, 2)),
        TypeError,
        "reparameterize_kl: seed has dtype torch.float32, expected int64",
    ),
    (
        lambda: vf.reparameterize_kl(ones, ones, reduction="batch"),
        ValueError,
        "reparameterize_kl: reduction is 'batch', expected 'none'",
    ),
    (
        lambda: vf.reparameterize_kl(ones, ones, batch_dims=3),
        ValueError,
        "reparameterize_kl: batch_dims is 3, expected 0 to 2",
    ),
    (
        lambda: vf.reparameterize_kl(ones, ones, ones, wide),
        ValueError,
        "reparameterize_kl: prior_logvar has shape (3, 4), "
        "expected a shape that broadcasts with mu (2, 3)",
    ),
    (
        lambda: vf.elbo_loss(ones, ones, ones, ones, likelihood="poison"),
        ValueError,
        "elbo_loss: likelihood is 'poison', expected 'bernoulli', ",
    ),
    (
        lambda: vf.elbo_loss(ones, ones, ones, ones, likelihood=None),
        TypeError,
        "elbo_loss: likelihood is of type NoneType, expected str",
    ),
    (
        lambda: vf.elbo_loss(ones, ones, ones, ones, beta="1"),
        TypeError,
        "elbo_loss: beta is of type str, expected float or Tensor",
    ),
    (
        lambda: vf.elbo_loss(ones, ones, ones, ones, reduction="none"),
        ValueError,
        "elbo_loss: reduction is 'none', expected 'sample', 'sum', 'batchmean' or 'mean'",
    ),
    (
        lambda: vf.elbo_loss(1.0, ones, ones, ones),
        TypeError,
        "elbo_loss: params is of type float, expected torch.Tensor",
    ),
    (
        lambda: vf.elbo_loss((), ones, ones, ones),
        ValueError,
        "elbo_loss: params is empty, expected a tensor or a tuple of tensors",
    ),
    (
        lambda: vf.elbo_loss((ones, ones), ones, ones, ones),
        ValueError,
        "elbo_loss: params has 2 tensors, expected 1 for 'bernoulli'",
    ),
    (
        lambda: vf.elbo_loss(ones, ones, ones, ones, likelihood="negative_binomial"),
        ValueError,
        "elbo_loss: params has 1 tensors, expected 2 for 'negative_binomial'",
    ),
    (
        lambda: vf.elbo_loss((ones,) * 3, ones, ones, ones, likelihood="gaussian"),
        ValueError,
        "elbo_loss: params has 3 tensors, expected 1 or 2 for 'gaussian'",
    ),
    (
        lambda: vf.elbo_loss(ones, 1.0, ones, ones),
        TypeError,
        "elbo_loss: target is of type float, expected torch.Tensor",
    ),
    (
        lambda: vf.elbo_loss(ones, ones, ones, wide),
        ValueError,
        "gaussian_kl: logvar has shape (3, 4), expected a shape that broadcasts with mu (2, 3)",
    ),
    (
        lambda: vf.elbo_loss(ones, ones, elsewhere, 0.3),
        ValueError,
        "elbo_loss: mu is on meta, expected",
    ),
    (
        lambda: vf.elbo_loss(ones, ones, ones, ones, batch_dims=1.5),
        TypeError,
        "elbo_loss: batch_dims is of type float, expected int",
    ),
    (
        lambda: vf.ELBOLoss("poison"),
        ValueError,
        "ELBOLoss: likelihood is 'poison', expected 'bernoulli', ",
    ),
    (
        lambda: vf.ELBOLoss(reduction="avg"),
        ValueError,
        "ELBOLoss: reduction is 'avg', expected 'none'",
    ),
    (
        lambda: vf.ELBOLoss(free_bits=-1.0),
        ValueError,
        "ELBOLoss: free_bits is -1.0, expected at least 0 (nats)",
    ),
    (
        lambda: vf.gaussian_log_ratio(ones, wide, ones),
        ValueError,
        "gaussian_log_ratio: mu has shape (3, 4), expected a shape that broadcasts with z (2, 3)",
    ),
    (
        lambda: vf.gaussian_log_ratio(ones[:1], ones, ones),
        ValueError,
        "gaussian_log_ratio: mu has shape (2, 3), expected one that broadcasts to that of z, "
        "(1, 3)",
    ),
    (
        lambda: vf.gaussian_log_ratio(ones, ones, ones, 0.0),
        ValueError,
        "gaussian_log_ratio: prior_logvar is missing, expected both or neither",
    ),
    (
        lambda: vf.gaussian_log_ratio(ones, ones, ones, noise=ones[:1]),
        ValueError,
        "gaussian_log_ratio: noise has shape (1, 3), expected (2, 3)",
    ),
    (
        lambda: vf.gaussian_log_ratio(ones, ones),
        TypeError,
        "gaussian_log_ratio: logvar is of type NoneType, expected torch.Tensor or a number, or",
    ),
    (
        lambda: vf.gaussian_log_ratio(ones, ones, ones, batch_dims=3),
        ValueError,
        "gaussian_log_ratio: batch_dims is 3, expected 0 to 2, the number of dimensions",
    ),
    (
        lambda: vf.reparameterize(ones, ones, antithetic=True),
        ValueError,
        "reparameterize: antithetic is True, expected with num_samples",
    ),
    (
        lambda: vf.reparameterize(ones, ones, num_samples=3, antithetic=True),
        ValueError,
        "reparameterize: num_samples is 3, expected an even number: they are antithetic pairs",
    ),
    (
        lambda: vf.reparameterize(ones, ones, num_samples=2, noise=ones, antithetic=True),
        ValueError,
        "reparameterize: noise and num_samples are both given, expected at most one",
    ),
)
