"""torch.compile, export, opcheck: the ops as the compiler sees them."""

import io
import re
from functools import partial

import pytest
import torch
import torch._functorch.config
import torch._inductor.config
from cases import CASES, each_case, leaves
from device import DEVICE, default_generator
from functorch.compile import aot_function, make_boxed_func
from torch._inductor.utils import run_and_get_code
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import checkpoint

import vae_fast as vf

pytestmark = [
    pytest.mark.usefixtures("fresh_compiler"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning"),
]

by_inductor = pytest.mark.torch_devices_only
INDUCTOR = pytest.param("inductor", marks=by_inductor)

# One of PyTorch's checks of an op refuses devices that are not PyTorch's own.
OPCHECKS = ("test_schema", "test_faketensor", "test_aot_dispatch_dynamic")
if DEVICE != "emulated":
    OPCHECKS += ("test_autograd_registration",)

ops = torch.ops.vae_fast
compiled = partial(torch.compile, fullgraph=True)
opcheck = partial(torch.library.opcheck, test_utils=OPCHECKS)


def seeded(function, *args, seed=0):
    torch.manual_seed(seed)
    return function(*args)


def leaf(*shape, **options):
    return torch.randn(*shape, requires_grad=True, **options)


def sample_twice(mu, logvar):
    """Two draws with equal inputs: the compiler must not merge them."""
    return vf.reparameterize_kl(mu, logvar)[0], vf.reparameterize_kl(mu, logvar)[0]


def loss_of_samples(mu, logvar):
    z, kl = vf.reparameterize_kl(mu * 2, logvar.tanh(), reduction="sample")
    again = vf.reparameterize(mu, logvar, num_samples=3)
    return (z.sin() * again).sum() + kl.square().sum()


# ---- opcheck -------------------------------------------------------------------------------------


@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("case", **each_case)
def test_opcheck(case, requires_grad):
    op = getattr(ops, case.op).default
    shapes = ((2, 3, 4), (3, 4), (4,), (2, 1, 4))
    mask = torch.rand(3, 4) < 0.5
    for keep, mean in ((3, 0), (1, 0), (0, 1)):
        tensors = [d(shapes[k]).requires_grad_(requires_grad) for k, d in enumerate(case.draws)]
        opcheck(op, (*tensors, mask if keep else None, keep, mean))
    strided = [x.detach().mT for x in leaves(case, 2, 3, 4)]
    want = 2 ** len(strided) - 1
    opcheck(op, (*strided, None, 1, 0, want), test_utils=("test_schema", "test_faketensor"))


@pytest.mark.parametrize("operand_count", [2, 4])
def test_opcheck_of_sampling(operand_count):
    shapes = ((3, 4), (4,), (3, 1), (1, 4))
    tensors = [leaf(*shape) for shape in shapes[:operand_count]]
    absent = (None,) * (4 - operand_count)
    seed = vf.draw_seed()
    opcheck(ops.reparameterize.default, (*tensors[:2], seed))
    opcheck(ops.reparameterize_kl.default, (*tensors, *absent, seed, 1, 0))
    detached = [x.detach() for x in tensors]
    noise = ops.reparameterize_kl(*detached, *absent, seed, 1, 0, 2)[2]
    upstream = torch.randn(3, 4), torch.randn(3)
    backward = partial(opcheck, ops.reparameterize_kl_backward.default)
    for want in (2**operand_count - 1, 1, 2):
        backward((*upstream, *detached, *absent, noise, 1, 0, want))
        backward((None, upstream[1], *detached, *absent, None, 1, 0, want))
    backward((*upstream, *detached, *absent, None, 1, 0, 1))


def test_opcheck_of_draw_seed():
    opcheck(ops.draw_seed.default, (torch.empty((2, 2), dtype=torch.int64),))


@pytest.mark.parametrize("case", **each_case)
def test_meta_and_fake_tensors(case):
    tensors = [torch.empty(3, 4, device="meta") for _ in case.names]
    assert case.public(*tensors, reduction="sample").shape == (3,)
    assert case.public(*tensors, reduction="none").device.type == "meta"
    z, kl = vf.reparameterize_kl(tensors[0], tensors[1], reduction="sample")
    assert (z.shape, kl.shape) == ((3, 4), (3,))
    with FakeTensorMode():
        cuda = [torch.empty(3, 4, device="cuda") for _ in case.names]
        value = getattr(ops, case.op)(*cuda, None, 1, 0)[0]
        assert (value.shape, value.device.type) == ((3,), "cuda")
        z, _, _ = ops.reparameterize_kl(cuda[0], cuda[1], None, None, vf.draw_seed(), 0, 1)
        assert z.device.type == "cuda"


# ---- torch.compile -------------------------------------------------------------------------------


@pytest.mark.parametrize("dynamic", [pytest.param(None, marks=by_inductor), True, False])
def test_forward_and_backward(dynamic):
    """All losses in one graph, its surroundings fused around them, static and dynamic shapes."""

    def function(*flat):
        losses, start = [], 0
        for case in CASES:
            operands = flat[start : start + len(case.names)]
            start += len(case.names)
            losses.append(case.public(*(x + 0 for x in operands), reduction="sample"))
        return torch.stack(losses).square().sum()

    backend = "inductor" if dynamic is None else "aot_eager"
    again = compiled(function, dynamic=dynamic, backend=backend)
    for n in (4, 7, 9):
        flat = [x.float().detach().requires_grad_() for case in CASES for x in leaves(case, n, 6)]
        expected = function(*flat)
        actual = again(*flat)
        torch.testing.assert_close(actual, expected)
        torch.testing.assert_close(
            torch.autograd.grad(actual, flat), torch.autograd.grad(expected, flat)
        )


@pytest.mark.parametrize("dynamic", [pytest.param(None, marks=by_inductor), True, False])
def test_sampling_forward_and_backward(dynamic):
    """The same noise and the same state of the generator in eager and compiled."""
    backend = "inductor" if dynamic is None else "aot_eager"
    again = compiled(loss_of_samples, dynamic=dynamic, backend=backend)
    for n in (4, 7, 9):
        mu, logvar = leaf(n, 6), leaf(n, 6)
        actual = seeded(again, mu, logvar)
        state = default_generator().get_state()
        expected = seeded(loss_of_samples, mu, logvar)
        assert torch.equal(state, default_generator().get_state())
        torch.testing.assert_close(actual, expected)
        torch.testing.assert_close(
            torch.autograd.grad(actual, (mu, logvar)), torch.autograd.grad(expected, (mu, logvar))
        )


@by_inductor
def test_surroundings_are_fused():
    def function(logits, target):
        x, y = (logits * 2).tanh() + 1, (target + 1).sigmoid()
        return (vf.bernoulli_nll(x, y, reduction="sample") * 3 + 1).exp().sum()

    def run():
        value = compiled(function)(leaf(8, 16), torch.rand(8, 16))
        value.backward()
        return value

    _, code = run_and_get_code(run)
    code = "\n".join(code)
    assert len(re.findall(r"(?:cpp|triton_\w+?)_fused_\w+ = async", code)) <= 3
    assert "vae_fast.bernoulli_nll" in code


@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("backend", ["eager", "aot_eager", "aot_eager_decomp_partition", INDUCTOR])
def test_equal_draws_are_not_merged(backend, requires_grad):
    mu, logvar = (torch.randn(3, 4, requires_grad=requires_grad) for _ in range(2))
    expected = seeded(sample_twice, mu, logvar)
    state = default_generator().get_state()
    actual = seeded(compiled(sample_twice, backend=backend), mu, logvar)
    assert torch.equal(state, default_generator().get_state())
    torch.testing.assert_close(actual, expected)
    assert not torch.equal(*actual)


@pytest.mark.parametrize("backend", ["aot_eager", INDUCTOR])
def test_an_unused_draw_is_kept_where_torch_keeps_its_own(backend):
    def unused(mu):
        vf.reparameterize_kl(mu, mu)
        return mu + 1

    with torch._inductor.config.patch(fallback_random=True):
        function = compiled(unused, backend=backend)
        function(torch.randn(2, 3))
        torch.manual_seed(0)
        state = default_generator().get_state()
        function(torch.zeros(2, 3))
        assert not torch.equal(state, default_generator().get_state())


def test_a_generator_of_ones_own():
    """It does not trace, as torch.randn's does not: draw outside, and pass the seed."""
    generator, mu = torch.Generator(), torch.zeros(2, 3)

    def sample(mu, seed):
        return vf.reparameterize_kl(mu, mu, seed=seed)[0]

    actual = compiled(sample, backend="aot_eager")(mu, vf.draw_seed(generator.manual_seed(1)))
    expected = vf.reparameterize_kl(mu, mu, generator=generator.manual_seed(1))[0]
    torch.testing.assert_close(actual, expected)
    with pytest.raises(torch._dynamo.exc.Unsupported):
        compiled(lambda m: vf.reparameterize_kl(m, m, generator=generator))(mu)
    torch.compiler.reset()
    generator.manual_seed(1)  # without fullgraph it breaks the graph, and is right
    broken = torch.compile(
        lambda m: vf.reparameterize_kl(m + 1, m, generator=generator)[0] - 1, backend="aot_eager"
    )
    torch.testing.assert_close(broken(mu), expected)


def test_a_seed_is_immune_to_recomputation():
    """Partitioner settings that run a random op again redraw; a seed as an input does not."""

    def function(mu, logvar, seed):
        z, kl = vf.reparameterize_kl(mu.sin(), logvar.cos(), seed=seed)
        return (z.exp() * z).sum() + kl

    mu, logvar, seed = leaf(3, 4), leaf(3, 4), vf.draw_seed()
    expected = function(mu, logvar, seed)
    gradients = torch.autograd.grad(expected, (mu, logvar))
    for settings in ({"activation_memory_budget": 0.01}, {"aggressive_recomputation": True}):
        torch.compiler.reset()
        with torch._functorch.config.patch(**settings):
            actual = compiled(function, backend="aot_eager_decomp_partition")(mu, logvar, seed)
            torch.testing.assert_close(actual, expected)
            torch.testing.assert_close(torch.autograd.grad(actual, (mu, logvar)), gradients)


@by_inductor
@pytest.mark.parametrize("backend", ["aot_eager_decomp_partition", "inductor"])
def test_checkpoint_inside(backend):
    def block(mu, logvar):
        z, kl = vf.reparameterize_kl(mu.sin(), logvar.cos())
        return (z.exp() * z).sum() + kl

    def function(mu, logvar):
        return checkpoint(block, mu, logvar, use_reentrant=False)

    mu, logvar = leaf(3, 4), leaf(3, 4)
    expected = seeded(block, mu, logvar)
    gradients = torch.autograd.grad(expected, (mu, logvar))
    state = default_generator().get_state()
    actual = seeded(compiled(function, backend=backend), mu, logvar)
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(torch.autograd.grad(actual, (mu, logvar)), gradients)
    assert torch.equal(state, default_generator().get_state())


def test_functorch_inside():
    logits, target = torch.randn(5, 6), torch.rand(5, 6)

    def total(logits, target):
        return vf.bernoulli_nll(logits, target, reduction="sum")

    per_sample = compiled(torch.func.vmap(torch.func.grad(total)), backend="aot_eager")
    torch.testing.assert_close(per_sample(logits, target), logits.sigmoid() - target)
    sample = torch.func.vmap(vf.reparameterize, randomness="different")
    actual = seeded(compiled(lambda m, v: sample(m, v), backend="aot_eager"), logits, target)
    torch.testing.assert_close(actual, seeded(sample, logits, target))


@by_inductor
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients(mode):
    function = compiled(lambda x, y: vf.bernoulli_nll(x, y), mode="reduce-overhead")
    logits, target = torch.randn(3, 4), torch.rand(3, 4)
    with mode():
        torch.testing.assert_close(function(logits, target), vf.bernoulli_nll(logits, target))


def test_autocast_inside():
    function = compiled(
        lambda x: vf.bernoulli_nll(torch.nn.functional.linear(x, x), torch.ones(3, 3)),
        backend="aot_eager",
    )
    x = leaf(3, 4)
    with torch.autocast(DEVICE, torch.bfloat16):
        value = function(x)
    assert value.dtype == torch.float32
    value.backward()
    assert x.grad.dtype == torch.float32


def test_elbo_module():
    """What a training step compiles: free bits, a tensor for beta, K samples, in one graph."""
    loss = vf.ELBOLoss(free_bits=0.1, sample_dims=1)
    function = compiled(lambda *args: loss(*args), backend="aot_eager")
    args = leaf(3, 5, 8), torch.rand(5, 8), leaf(5, 2), leaf(5, 2)
    torch.testing.assert_close(function(*args), loss(*args))
    for beta in (0.3, 0.7):
        loss.beta = beta
        torch.testing.assert_close(function(*args), loss(*args))


def test_aot_function():
    """AOTAutograd by itself: a graph of the ops forward, one backward."""
    graphs = []

    def compiler(graph, _):
        graphs.append(graph)
        return make_boxed_func(graph.forward)

    mu, logvar = leaf(4, 6), leaf(4, 6)
    expected = seeded(loss_of_samples, mu, logvar)
    actual = seeded(aot_function(loss_of_samples, compiler), mu, logvar)
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(
        torch.autograd.grad(actual, (mu, logvar)), torch.autograd.grad(expected, (mu, logvar))
    )
    assert len(graphs) == 2
    assert "vae_fast.reparameterize_kl.default" in graphs[0].code


def test_make_fx():
    graph = make_fx(lambda m, v: vf.reparameterize_kl(m, v), tracing_mode="symbolic")(
        torch.randn(3, 4), torch.randn(3, 4)
    )
    called = [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]
    assert any("draw_seed" in name for name in called)


@pytest.mark.parametrize("bad", [torch.zeros(2), torch.zeros(2, 3, dtype=torch.int64)])
def test_bad_input_is_said_while_compiling(bad):
    with pytest.raises(Exception, match="bernoulli_nll: target has"):
        compiled(vf.bernoulli_nll, backend="eager")(torch.zeros(2, 3), bad)


def test_the_reference_compiles(backend):
    function = compiled(loss_of_samples, backend="aot_eager")
    mu, logvar = leaf(4, 6), leaf(4, 6)
    torch.testing.assert_close(seeded(function, mu, logvar), seeded(loss_of_samples, mu, logvar))


# ---- export --------------------------------------------------------------------------------------


class Tail(torch.nn.Module):
    def forward(self, mu, logvar):
        z, kl = vf.reparameterize_kl(mu.tanh(), logvar, reduction="sample")
        return vf.bernoulli_nll(z, logvar.sigmoid(), reduction="sample") + kl


@pytest.mark.parametrize("strict", [False, True])
def test_export(strict):
    batch = torch.export.Dim("batch", min=2, max=64)
    arguments = torch.randn(3, 4), torch.randn(3, 4)
    shapes = ({0: batch}, {0: batch})
    program = torch.export.export(Tail(), arguments, dynamic_shapes=shapes, strict=strict)
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    loaded = torch.export.load(file).run_decompositions({}).module()
    arguments = torch.randn(5, 4), torch.randn(5, 4)
    torch.testing.assert_close(seeded(loaded, *arguments), seeded(Tail(), *arguments))


@by_inductor
def test_aot_inductor(tmp_path):
    batch = torch.export.Dim("batch", min=2, max=64)
    arguments = torch.randn(3, 4), torch.randn(3, 4)
    with torch.no_grad():
        program = torch.export.export(Tail(), arguments, dynamic_shapes=({0: batch}, {0: batch}))
        path = torch._inductor.aoti_compile_and_package(
            program, package_path=str(tmp_path / "tail.pt2")
        )
        loaded = torch._inductor.aoti_load_package(path)
        arguments = torch.randn(5, 4), torch.randn(5, 4)
        torch.testing.assert_close(seeded(loaded, *arguments), seeded(Tail(), *arguments))


# ---- known limits --------------------------------------------------------------------------------


@pytest.mark.of_the_fast_binding  # the stable one's nodes are Python, which it traces
def test_compiled_autograd_over_an_eager_graph_is_refused():
    from torch._dynamo import compiled_autograd

    logits, target = leaf(3, 4), torch.rand(3, 4)
    with compiled_autograd._enable(torch.compile(backend="eager")), pytest.raises(RuntimeError):
        vf.bernoulli_nll(logits, target).backward()
    with compiled_autograd._enable(torch.compile(backend="eager")):
        torch.compile(vf.bernoulli_nll, backend="aot_eager")(logits, target).backward()
    assert logits.grad is not None


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize(
    "function",
    [
        lambda x, y: vf.bernoulli_nll(x, y),
        lambda x, y: vf.gaussian_nll(x, y, 0.3),
        lambda x, y: vf.gaussian_nll(x, y, x, reduction="mean"),
        lambda x, y: vf.multinomial_nll(x, y),
        lambda x, y: vf.multinomial_nll(x, y, reduction="sample"),
        lambda x, y: vf.linear_nll(x, torch.ones(4, 4), None, y),
        lambda x, y: vf.linear_nll(x, torch.ones(4, 4), x[0], y, likelihood="multinomial"),
        lambda x, y: vf.gaussian_kl(x, y),
        lambda x, y: vf.reparameterize(x, y, seed=3),
        lambda x, y: vf.reparameterize_kl(x, y, seed=3, reduction="sample")[1],
    ],
)
@torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True)
def test_sizes_that_only_the_run_tells(function):
    """A batch selected by a mask: torch's own losses compile, and so do these."""
    x, y = torch.randn(9, 4), torch.rand(9, 4)
    compiled = torch.compile(
        lambda x, y, mask: function(x[mask], y[mask]), fullgraph=True, backend="aot_eager"
    )
    for threshold in (0.3, 0.6):
        mask = torch.linspace(0, 1, 9) > threshold
        torch.testing.assert_close(compiled(x, y, mask), function(x[mask], y[mask]))


def test_an_exported_bound_can_be_stored(tmp_path):
    class Bound(torch.nn.Module):
        def forward(self, x, target):
            return vf.elbo_loss(x, target, x, x)

    tensors = torch.randn(4, 3), torch.rand(4, 3)
    torch.export.save(torch.export.export(Bound(), tensors), tmp_path / "bound.pt2")
    again = torch.export.load(tmp_path / "bound.pt2").module()(*tensors)
    assert torch.equal(again.loss, Bound()(*tensors).loss)
