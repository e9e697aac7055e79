"""The package's rooms: which may use which, and what stands in them by itself."""

import ast
from pathlib import Path

import vae_fast as vf
from build_tools import stub
from vae_fast import distributions, likelihoods
from vae_fast.engine.table import LIKELIHOODS

PACKAGE = Path(vf.__file__).parent
# From the bottom; a room uses those below it alone. `__init__` is what `import vae_fast` gives.
FLOORS = (
    {"_version"},
    {"engine"},
    {"stable"},
    {"likelihoods", "info", "memory"},
    {"latent"},
    {"bounds", "distributions"},
    {"models", "data", "integrations"},
    {"training"},
    {"evaluation"},
    {"__init__"},
    {"bench"},
    {"plots"},
    {"cli"},
    {"__main__"},
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def room_of(module: str) -> str:
    name = module.split(".")[1]
    return name if name in FLOOR_OF else "__init__"  # a public name


def imported(file: Path) -> set[str]:
    """The rooms whose modules a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vae_fast"):
            found |= {room_of(f"{node.module}.{alias.name}") for alias in node.names}
        elif isinstance(node, ast.Import):
            own = (alias.name for alias in node.names if alias.name.split(".")[0] == "vae_fast")
            found |= {room_of(f"{name}.__init__") for name in own}
    return found


def test_arrows_run_one_way():
    arrows = {
        (file.relative_to(PACKAGE).with_suffix("").parts[0], room)
        for file in PACKAGE.rglob("*.py")
        for room in imported(file)
    }
    assert ("likelihoods", "engine") in arrows
    assert [(a, b) for a, b in sorted(arrows) if a != b and FLOOR_OF[a] <= FLOOR_OF[b]] == []


def test_a_likelihood_is_what_its_file_says():
    """Each file's functions are public, its name is in the table, and type checkers see it."""
    files = [file for file in (PACKAGE / "likelihoods").glob("*.py") if file.stem != "__init__"]
    assert files
    for file in files:
        assert getattr(vf, f"{file.stem}_nll").__module__ == f"vae_fast.likelihoods.{file.stem}"
        assert LIKELIHOODS[file.stem].function is getattr(vf, f"{file.stem}_nll")
    assert set(likelihoods.__all__) <= set(vf.__all__)
    namespace: dict[str, object] = {}
    exec(stub.text(PACKAGE / "likelihoods"), namespace)
    assert namespace["__all__"] == likelihoods.__all__
    assert all(namespace[name] is getattr(vf, name) for name in likelihoods.__all__)


def test_a_distribution_stands_in_its_likelihoods_file():
    """Type checkers see those that the table has."""
    namespace: dict[str, object] = {}
    exec(stub.distributions_text(PACKAGE / "likelihoods"), namespace)
    assert namespace["__all__"] == distributions.__all__
    for name, entry in LIKELIHOODS.items():
        if entry.distribution is not None:
            assert entry.distribution.__module__ == f"vae_fast.likelihoods.{name}"
            assert namespace[entry.distribution.__name__] is entry.distribution
