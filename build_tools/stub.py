"""Writes the stubs of vae_fast/likelihoods and vae_fast/distributions.py.

Their names are found in the folder's files at run time. Type checkers do not run the import, so
they read the same names here: mypy then knows the public functions and the distributions of every
file that is there, and adding one edits no list.
"""

import ast
from collections.abc import Callable
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "vae_fast"
FOLDER = PACKAGE / "likelihoods"
# A distribution that is neither a likelihood's nor a posterior's.
_OF_THE_ENGINE = {"MixtureSameFamily": "vae_fast.engine.mixture_distribution"}

_TABLE = "vae_fast.latent.posteriors.table"


def _public(tree: ast.Module) -> list[str]:
    """What the file's ``__all__`` names."""
    lists = (
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    names: list[str] = ast.literal_eval(next(lists))
    return names


def _distributions(tree: ast.Module) -> list[str]:
    """What the file enters as its ``distribution=``."""
    return [
        ast.unparse(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword) and node.arg == "distribution"
    ]


def _posteriors(file: Path) -> dict[str, str]:
    """The distributions that the room of posteriors makes public: of a name, its module."""
    tree = ast.parse(file.read_text())
    modules = {
        alias.name: f"{node.module}"
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module != _TABLE
        for alias in node.names
    }
    return {name: modules[name] for name in _public(tree) if name in modules}


def _text(folder: Path, names_in: Callable[[ast.Module], list[str]], others: dict[str, str]) -> str:
    """Of what the folder's files have, and of ``others`` behind: of a name, its module."""
    modules = {}
    for file in sorted(path for path in folder.glob("*.py") if path.stem != "__init__"):
        for name in names_in(ast.parse(file.read_text())):
            modules[name] = f"vae_fast.likelihoods.{file.stem}"
    modules |= others
    names = list(modules)
    imports = [f"from {module} import {name} as {name}" for name, module in modules.items()]
    return "\n".join((*imports, "", f"__all__ = {names}", ""))


def text(folder: Path) -> str:
    """That of the likelihoods, of the files that are in the folder now."""
    return _text(folder, _public, {})


def distributions_text(folder: Path) -> str:
    """That of the distributions."""
    posteriors = _posteriors(folder.parent / "latent" / "posteriors" / "__init__.py")
    return _text(folder, _distributions, posteriors | _OF_THE_ENGINE)


def write(folder: Path = FOLDER) -> None:
    """Beside what they describe; left alone where they say so already."""
    stubs = {
        folder / "__init__.pyi": text(folder),
        folder.parent / "distributions.pyi": distributions_text(folder),
    }
    for stub, content in stubs.items():
        if not stub.exists() or stub.read_text() != content:
            stub.write_text(content)


if __name__ == "__main__":
    write()
