"""Random numbers that a model's data draw themselves: a resumption draws the same."""

import random

import numpy as np
import pytest
import torch
from scripted_runs import Interrupt, assert_same, state_of
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler

from vae_fast.training import RunError, Trainer, TrainerConfig


class Noisy(Dataset):
    """A datum that is another each time, by the generators that people use."""

    def __init__(self, data):
        self.data = data

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        return self.data[index] / 255 * (0.5 + 0.2 * np.random.rand() + 0.2 * random.random())


@pytest.mark.parametrize("batched", [False, True])
def test_generators_of_others_resume_too(make_vae, digits, tmp_path, batched):
    """numpy's and Python's global ones, and one that a sampler has of its own."""

    def loader():
        own = torch.Generator().manual_seed(8)
        sampler = RandomSampler(range(200), generator=own)
        if batched:
            return DataLoader(
                Noisy(digits.train[:200]), batch_sampler=BatchSampler(sampler, 50, False)
            )
        return DataLoader(Noisy(digits.train[:200]), 50, sampler=sampler)

    config = TrainerConfig(epochs=3, device="cpu")
    whole = Trainer(make_vae(), config)
    whole.fit(loader())
    with pytest.raises(KeyboardInterrupt):
        Trainer(make_vae(), config, out=tmp_path, callbacks=[Interrupt(2)]).fit(loader())
    np.random.seed(5)
    random.seed(5)
    before = np.random.get_state()[1].tolist(), random.getstate()
    resumed = Trainer.resume(tmp_path)
    resumed.fit(loader())
    assert_same(state_of(whole), state_of(resumed))
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before
    with pytest.raises(RunError, match=r"of their own of .*sampler, these with nothing"):
        Trainer.resume(tmp_path, epochs=4).fit(digits.train)
