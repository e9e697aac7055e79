"""`make bench-against`, on this tree twice: everything but the build of the other commit."""

import subprocess

import pytest

from benchmarks import against

ROOT = against.ROOT


def _worktrees():
    command = ["git", "-C", str(ROOT), "worktree", "list"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_checkout_is_removed_whatever_happens():
    before = _worktrees()

    def fail():
        with against.checkout("HEAD") as tree:
            assert (tree / "setup.py").exists()
            assert _worktrees() != before
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert _worktrees() == before


def test_no_such_commit():
    with pytest.raises(SystemExit, match="'nowhere' is no commit"), against.checkout("nowhere"):
        pass


def test_a_tree_that_does_not_build(tmp_path):
    (tmp_path / "setup.py").write_text("raise SystemExit('broken on purpose')")
    with pytest.raises(SystemExit, match=r"(?s)does not build.*broken on purpose"):
        against.build(tmp_path)


def test_both_sides_measure_the_same_case(capsys, monkeypatch):
    monkeypatch.setattr(against, "_PAIRS", 2)
    monkeypatch.setattr(against, "_TURN", 1e-3)
    other = ROOT / "vae_fast" / ".."  # the same tree under another name
    against.compare(other, ROOT, "main", "gaussian_kl 1x16", 1e-3)
    said = capsys.readouterr().out
    assert "main ms" in said
    assert "gaussian_kl 1x16" in said
    assert "bernoulli" not in said
    assert "only here" not in said


def test_cases_of_one_side_are_named(capsys, monkeypatch):
    class Side:
        started = 0.0

        def __init__(self, tree):
            self.cases = ["common", tree]

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def prepare(self, case):
            return 0.01

        def used(self):
            return 0.0

        def turn(self, count):
            return 2.0 if self.cases[1] == "old" else 1.0

    monkeypatch.setattr(against, "Side", Side)
    against.compare("old", "new", "main", "", 0.1)
    said = capsys.readouterr().out
    assert "only here: new" in said
    assert "only in main: old" in said
    (line,) = (line for line in said.splitlines() if line.startswith("common"))
    assert "2.000" in line
    assert "faster" in line


def test_no_verdict_where_the_pairs_disagree():
    pairs = [against.Pair(1.0, 1.0, ratio, None) for ratio in (0.9, 1.1, 1.2)]
    assert "the same" in against.cells("a", pairs)
