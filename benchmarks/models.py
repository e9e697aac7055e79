"""`python -m benchmarks.models`: a training step of each model beside one of pythae's class of it.

    pip install torch==2.13.0 pythae    # no other torch
    python -m benchmarks.models

Both sides have the same batch of intensities, linear layers of 784, 512 and 10 numbers and back,
Adam (fused, as a trainer here has it; pythae's as its own makes it) and one thread. The losses are
of a first step: they differ by the draws of weights and noise, and by definition where pythae has a
squared error for the likelihood (AE, WAE-MMD, VQ-VAE), or adds its groups (PIWAE). Its FactorVAE
splits a batch in two, of which it reconstructs one half: it is given twice as many data.
"""

import argparse
import statistics
from collections.abc import Callable
from time import perf_counter
from typing import Any

import pythae.models
import torch
from torch import Tensor

from vae_fast.models import MODELS

INPUTS, LATENT, HIDDEN = 784, 10, 512
# By our names: pythae's class, and the settings that make it the same model.
PEERS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "ae": ("AE", {}, {}),
    "vae": ("VAE", {}, {}),
    "beta_vae": ("BetaVAE", {"beta": 4.0}, {"beta": 4.0}),
    "annealed_vae": ("DisentangledBetaVAE", {"gamma": 10.0}, {"beta": 10.0, "C": 25.0}),
    "beta_tc_vae": ("BetaTCVAE", {"beta": 6.0}, {"beta": 6.0}),
    "factor_vae": ("FactorVAE", {"discriminator_hidden": (1000,) * 5}, {"gamma": 6.0}),
    "info_vae": ("INFOVAE_MMD", {"alpha": 0.0, "weight": 10.0}, {"alpha": 0.0, "lbd": 10.0}),
    "wae_mmd": ("WAE_MMD", {"weight": 10.0}, {"reg_weight": 10.0}),
    "iwae": ("IWAE", {"num_samples": 5}, {"number_samples": 5}),
    "piwae": ("PIWAE", {"num_samples": 8, "groups": 2},
              {"number_gradient_estimates": 2, "number_samples": 4}),
    "ciwae": ("CIWAE", {"num_samples": 5, "alpha": 0.5}, {"number_samples": 5, "beta": 0.5}),
    "vamp_vae": ("VAMP", {"num_pseudo_inputs": 50}, {"number_components": 50}),
    "spherical_vae": ("SVAE", {"posterior": "von_mises_fisher"}, {}),
    "vq_vae": ("VQVAE", {"num_codes": 512, "code_dim": LATENT, "update": "ema"},
               {"num_embeddings": 512, "use_ema": True, "decay": 0.99}),
}  # fmt: skip

Step = Callable[[], Tensor]


def step_of_ours(kind: str, settings: dict[str, Any], x: Tensor) -> Step:
    """Of a model of this package."""
    torch.manual_seed(0)
    model = MODELS[kind]((1, 28, 28), LATENT, hidden=(HIDDEN,), **settings)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)

    def step() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss = model.loss(x).loss
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def step_of_pythae(name: str, settings: dict[str, Any], x: Tensor) -> Step:
    """Of a class of pythae, as its trainers make a step."""
    torch.manual_seed(0)
    kind = getattr(pythae.models, name)
    suffix = "_Config" if hasattr(pythae.models, f"{name}_Config") else "Config"
    common = {"input_dim": (1, 28, 28), "latent_dim": LATENT}
    if "reconstruction_loss" in getattr(pythae.models, name + suffix).__dataclass_fields__:
        common["reconstruction_loss"] = "bce"
    model = kind(getattr(pythae.models, name + suffix)(**common, **settings)).train()
    of_d = [p for n, p in model.named_parameters() if n.startswith("discriminator")]
    of_others = [p for n, p in model.named_parameters() if not n.startswith("discriminator")]
    optimizers = [torch.optim.Adam(group, foreach=False) for group in (of_others, of_d) if group]
    batch = {"data": torch.cat((x, x)) if name == "FactorVAE" else x}

    def step() -> Tensor:
        found = model(batch, epoch=1, dataset_size=60_000, uses_ddp=False)
        for optimizer in optimizers:
            optimizer.zero_grad()
        if of_d:  # each part of the model by its own loss
            found.autoencoder_loss.backward(retain_graph=True, inputs=of_others)
            found.discriminator_loss.backward(inputs=of_d)
            loss: Tensor = found.autoencoder_loss
        else:
            loss = found.loss
            loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        return loss.detach()

    return step


def milliseconds(steps: list[Step], rounds: int) -> list[float]:
    """The median time of a step of each, which take turns."""
    times: list[list[float]] = [[] for _ in steps]
    for turn in range(rounds + 3):
        for step, own in zip(steps, times, strict=True):
            start = perf_counter()
            step()
            if turn >= 3:  # what is set up at first
                own.append(1e3 * (perf_counter() - start))
    return [statistics.median(each) for each in times]


def main() -> None:
    """Measure all, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("models", nargs="*", default=list(PEERS))
    given = parser.parse_args()
    torch.set_num_threads(1)
    x = torch.rand(given.batch_size, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    print("| model | pythae | ms | pythae's ms | times as fast | loss | pythae's |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for kind in given.models:
        name, own, theirs = PEERS[kind]
        dataset = {"dataset_size": 60_000} if kind == "beta_tc_vae" else {}
        steps = [step_of_ours(kind, own | dataset, x), step_of_pythae(name, theirs, x)]
        losses = [float(step()) for step in steps]
        ours, peer = milliseconds(steps, given.rounds)
        print(
            f"| `{kind}` | `{name}` | {ours:.2f} | {peer:.2f} | {peer / ours:.1f} | "
            f"{losses[0]:.1f} | {losses[1]:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
