"""The release, read without importing the package, which would import torch."""

import runpy
from pathlib import Path

ROOT = Path(__file__).parent.parent
VERSION: str = runpy.run_path(str(ROOT / "vae_fast" / "_version.py"))["__version__"]
