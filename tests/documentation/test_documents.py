"""What the documents say can be done, done."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_whole_change_of_a_likelihood_applies():
    text = (ROOT / "docs" / "adding-a-likelihood.md").read_text()
    (change,) = re.findall(r"^```diff\n(.+?)^```$", text, re.MULTILINE | re.DOTALL)
    command = ["git", "apply", "--check", "-C1", "-"]
    done = subprocess.run(
        command, cwd=ROOT, input=change, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    added = re.findall(r"^--- /dev/null\n\+\+\+ b/(.+)$", change, re.MULTILINE)
    assert added == [
        "csrc/formulas/logistic.h",
        "tests/likelihoods/logistic.py",
        "vae_fast/likelihoods/logistic.py",
    ]
    assert re.findall(r"^--- a/(.+)$", change, re.MULTILINE) == ["csrc/formulas/list.h"]
