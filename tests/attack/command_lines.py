"""Command lines as people mistype them, and as scripts with empty variables leave them."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.attack import small_run
from tests.attack.judge import Case, command, inside, line

_HUGE = "999999999999999999999999999999"
_BAD = {
    "--epochs": ("0", "-1", "x", "1e3", _HUGE, "nan", "' 1'"),
    "--batch-size": ("0", "-5", "99999999999999999999", "2147483647", "1.5"),
    "--hidden": ("''", "0", "-5", "a,b", "10,,10", "1e3", "٣", _HUGE, "2000000000,2000000000"),
    "--latent": ("0", _HUGE, "2147483647", "x"),
    "--channels": ("0", "a", "8,8,8,8,8"),
    "--arch": ("foo", "conv --channels 8,8,8,8", "conv --channels ''", "conv"),
    "--model": ("foo", "ae"),
    "--likelihood": ("foo", "gaussian", "bernoulli"),
    "--likelihood gaussian --decoder-logvar": ("''", "nan", "foo", "1e39", "-1e39", "pixel"),
    "--beta": ("nan", "inf", "-1", "x", "1e300"),
    "--kl-warmup": ("nan", "inf", "-1", "1e308"),
    "--free-bits": ("nan", "inf", "1e30"),
    "--lr": ("0", "nan", "inf", "-1", "1e38", "1e-320"),
    "--lr-warmup": ("nan", "-0.5", "1e9"),
    "--schedule": ("foo", "cosine"),
    "--weight-decay": ("nan", "1e30", "-1"),
    "--clip-norm": ("nan", "inf", "0", "1e-30"),
    "--patience": ("0", "x", "1"),
    "--min-delta": ("nan", "-1", "1e30"),
    "--test-fraction": ("0", "1", "nan", "0.999999", "1e-9", "x"),
    "--image-size": ("0", "-3", _HUGE, "5"),
    "--max-bytes": ("0", "10", _HUGE),
    "--seed": ("-1", "9223372036854775807", "9223372036854775808", "18446744073709551616", _HUGE),
    "--threads": ("0", "-1", "100000", "99999999999"),
    "--device": ("cuda", "foo", "meta", "cpu:5", "mps", "xla", "''", "cuda:99"),
    "--precision": ("float16", "bfloat16"),
    "--checkpoint-every": ("0", _HUGE, "7"),
    "--data": ("nothing", "''", "mnist2", "/dev/null", "/etc", "~nouser/x.npy", "/dev/zero",
               "X.NPY", "folder.npy", "pipe.npy", "'a b.npy'", "x" * 300,
               "x" * 300 + ".npy", "base"),
    "--data-dir": ("/nope", "/dev/null"),
    "--out": ("/proc/x", "/dev/null", "x.npy", "x.npy/run", "loop", "dangling", "n" * 300,
              "'[/bold]'", "'runs[beta]'", "'[link=http://x]'", "':smile:'", "ünïcödé", "-"),
    "--cuda-graphs": ("", "--no-plots"),
    "--foo": ("",), "--overwrite": ("", "--beta nan"), "--tensorboard": ("--beta nan",),
}  # fmt: skip
_LINES = (
    "foo", "--foo", "--help", "--version", "train extra", "train --help", "evaluate",
    "evaluate nowhere", "sample nowhere", "reconstruct nowhere", "train --resume",
    "train --resume --out nowhere", "train --resume --out base --seed 1",
    "train --resume --out base --overwrite", "train --resume --out base --model ae",
    "train --resume --out base --data x.npy", "train --resume --out base --device meta",
    "train --resume --out base --epochs 1 --no-plots", "train --out base --data x.npy",
    "evaluate base", "evaluate base --json", "evaluate .", "evaluate ''", "evaluate x.npy",
    "evaluate base -k -1", "evaluate base -k 1000000000000", "evaluate base -k 2147483647",
    "evaluate base -k 3", "evaluate base --data nothing", "evaluate base --data base",
    "evaluate base --data folder.npy", "evaluate base --device cuda", "evaluate base extra",
    "evaluate base --data other.npy", "sample base -n 0", "sample base -n 99999999999",
    "sample base --out x.jpg", "sample base --out nodir/x.png", "sample base --out .",
    "sample base --seed -1", "sample base --seed 18446744073709551616",
    "sample base -n 3 --out /dev/full/x.npy", "sample base -n 3 --out s.npy",
    "reconstruct base -n 0", "reconstruct base -n 100000 --out r.npy",
    "traverse base -d 99999999999", "traverse base --range nan", "interpolate base --between 0 -1",
    "impute base --mask folder.npy", "impute base --mask nowhere.npy", "anomaly base --data base",
    "cluster base -c 99999999", "evaluate base --metric x", "evaluate base --all --count 1",
    "evaluate base --metric units --factors folder.npy", "evaluate base --beside nowhere --out e",
    "reconstruct base --data base", "reconstruct base --data other.npy --out r.npy", "info",
    "info --json", "info x", "bench --images 5", "bench --seconds nan", "bench --seconds -1",
    "bench --only foo", "bench --threads 100000", "demo --epochs 0",
    "demo --out /proc/x --epochs 1", "demo --seed -1", "demo --out base --epochs 1",
)  # fmt: skip


def cases(folder: Path) -> Iterator[Case]:
    """All of them."""
    base = small_run.make(folder)
    for text in _LINES:
        yield Case(text, partial(_line, folder, text))
    train = f"train --data {folder / 'x.npy'} --epochs 1 {' '.join(map(str, small_run.SIZES))}"
    for option, values in _BAD.items():
        for value in values:
            out = "" if option == "--out" else "--overwrite --out out"
            yield Case(
                f"{option} {value}", partial(_line, folder, f"{train} {out} {option} {value}")
            )
    yield Case("a path that is not UTF-8", partial(_not_utf8, folder))
    yield Case("a run in such a path", partial(_evaluate_not_utf8, base))


def _line(folder: Path, text: str) -> str | None:
    _odd_places(folder)
    with inside(folder):
        return line(text).fault


def _odd_places(folder: Path) -> None:
    import numpy as np

    if (folder / "other.npy").exists():
        return
    np.save(folder / "other.npy", np.zeros((5, 3, 3), np.float32))
    np.save(folder / "a b.npy", np.zeros((50, 4, 4), np.float32))
    (folder / "folder.npy").mkdir()
    os.mkfifo(folder / "pipe.npy")
    (folder / "loop").symlink_to("loop")
    (folder / "dangling").symlink_to("nowhere")


def _not_utf8(folder: Path) -> str | None:
    out = os.fsdecode(os.fsencode(folder) + b"/\xff\xfe")
    told = ("--data", folder / "x.npy", "--epochs", 1, "--out", out, *small_run.SIZES)
    with inside(folder):
        return command("train", *told).fault


def _evaluate_not_utf8(base: Path) -> str | None:
    place = Path(os.fsdecode(os.fsencode(base.parent) + b"/\xfe\xfe"))
    place.symlink_to(base)
    with inside(base.parent):
        return command("evaluate", place).fault
