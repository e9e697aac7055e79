"""The proofs' figures: `python -m tests.dropin.table` writes them into docs/drop_ins.md.

A row is a case: its training with and without, the two taking turns in one process of one thread.
Time is the process's own, the median of a step (forward, backward, Adam); memory is what forward
and backward have allocated at their peak, the weights' gradients among it.
"""

import argparse
import gc
import platform
import random
import statistics
import time
from importlib import metadata
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from tests.dropin.cases import CASES, SEED
from tests.dropin.data import pictures
from tests.dropin.proof_of_training import trained

DOCUMENT = Path(__file__).parents[2] / "docs" / "drop_ins.md"
BEGIN, END = "<!-- figures: python -m tests.dropin.table -->", "<!-- end of the figures -->"
PEERS = ("torch", "diffusers", "scvi-tools", "pythae", "pyro-ppl", "multivae")


class Stepper:
    """A training, step by step."""

    def __init__(self, case, is_switched):
        self.training, self.count = case.training(is_switched), 0
        self.adam = torch.optim.Adam(self.training.module.parameters(), lr=1e-3)

    def gradients(self):
        torch.manual_seed(SEED + self.count)
        self.adam.zero_grad()
        self.training.loss(self.count).backward()
        self.count += 1

    def __call__(self):
        self.gradients()
        self.adam.step()


def milliseconds(steppers, seconds):
    """The median of each, in turns of random order."""
    found = {stepper: [] for stepper in steppers}
    for stepper in 3 * steppers:
        stepper()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(found[steppers[0]]) < 10:
        for stepper in random.sample(steppers, len(steppers)):
            begin = time.process_time()
            stepper()
            found[stepper].append(1e3 * (time.process_time() - begin))
    return [statistics.median(found[stepper]) for stepper in steppers]


def megabytes(stepper):
    """Of what is allocated for the gradients of a step, at its peak."""
    gc.collect()
    stepper.adam.zero_grad()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        stepper.gradients()
    live, peak, pending = 0, 0, list(profiler.profiler.kineto_results.experimental_event_tree())
    sizes = []
    while pending:
        event = pending.pop()
        pending.extend(event.children)
        if hasattr(event.extra_fields, "alloc_size"):
            sizes.append((event.start_time_ns, event.extra_fields.alloc_size))
    for _, size in sorted(sizes):
        live += size
        peak = max(peak, live)
    return peak / 1e6


def row(case, seconds):
    (expected, of_plain), (losses, of_switched) = (trained(case.training(s)) for s in (False, True))
    loss = ((losses[0] - expected[0]) / expected[0]).abs().item()
    gradient = ((of_switched - of_plain).norm() / of_plain.norm()).item()
    steppers = [Stepper(case, is_switched) for is_switched in (False, True)]
    plain, switched = milliseconds(steppers, seconds)
    before, after = map(megabytes, steppers)
    return (
        f"| {case.peer} | {case.what} | {case.lines} | {loss:.0e} | {gradient:.0e} "
        f"| {plain:.1f} | {switched:.1f} | {plain / switched:.2f} | {before:.1f} | {after:.1f} |"
    )


def processor():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(": ")[1] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=4.0, help="of timing, for a row")
    parser.add_argument("--only", default="", help="rows with this text, printed alone")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    random.seed(0)
    versions = ", ".join(f"{peer} {metadata.version(peer)}" for peer in PEERS)
    lines = [
        "| peer | model | lines | loss | gradients | ms | with | | MB | with |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for case in CASES:
        if arguments.only in str(case):
            lines.append(row(case, arguments.seconds))
            print(lines[-1], flush=True)
    size = "x".join(map(str, pictures().shape[-2:]))
    lines += ["", f"{versions}; pictures of {size}; one thread of {processor()}."]
    if not arguments.only:
        text = DOCUMENT.read_text()
        (head, rest), (_, tail) = text.split(BEGIN), text.split(END)
        assert END in rest
        DOCUMENT.write_text("\n".join([f"{head}{BEGIN}", *lines, f"{END}{tail}"]))


if __name__ == "__main__":
    main()
