"""Writes the stub of vae_fast/likelihoods, whose modules are found in the folder at run time.

Type checkers do not run the import, so they read the same names here: mypy then knows the public
functions of every file that is there, and adding one edits no list.
"""

import ast
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "vae_fast" / "likelihoods"


def _public(file: Path) -> list[str]:
    """What the file's ``__all__`` names."""
    lists = (
        node.value
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    names: list[str] = ast.literal_eval(next(lists))
    return names


def text(folder: Path) -> str:
    """The stub's, of the files that are in the folder now."""
    files = sorted(path for path in folder.glob("*.py") if path.stem != "__init__")
    imports, names = [], []
    for file in files:
        for name in _public(file):
            imports.append(f"from vae_fast.likelihoods.{file.stem} import {name} as {name}")
            names.append(name)
    return "\n".join((*imports, "", f"__all__ = {names}", ""))


def write(folder: Path = FOLDER) -> None:
    """Beside the folder's __init__.py; left alone where it says so already."""
    stub = folder / "__init__.pyi"
    if not stub.exists() or stub.read_text() != text(folder):
        stub.write_text(text(folder))


if __name__ == "__main__":
    write()
