"""What was built with CUDA works on a machine that has no GPU: import, CPU ops, a clear error."""

import pytest
import torch

import vae_fast as vf


def test_the_kernels_are_there():
    info = vf.build_info()
    assert info.cuda_kernels == torch.version.cuda
    assert info.cuda_architectures is not None
    assert info.cuda_architectures.endswith("+PTX")


def test_the_cpu_computes():
    logits = torch.randn(4, 5, requires_grad=True)
    vf.bernoulli_nll(logits, torch.rand(4, 5)).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_a_draw_on_a_gpu_that_is_not_there():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(RuntimeError, match="NVIDIA driver"):
        torch.empty(1, device="cuda")
    with pytest.raises(RuntimeError, match="NVIDIA driver"):
        vf.draw_seed(device="cuda")
    with pytest.raises(ValueError, match=r"'cuda' is not to be had here: .* NVIDIA driver"):
        vf.Trainer(torch.nn.Linear(1, 1), vf.TrainerConfig(device="cuda"))
    assert vf.build_info().device == "cpu"
