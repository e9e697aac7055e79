"""`vae-fast info`."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from vae_fast.info import build_info


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def info(as_json: bool) -> None:
    """Say what is compiled and what will be used.

    That is: instruction set, device, threads; torch, and its CUDA.
    """
    built = build_info()
    click.echo(json.dumps(asdict(built)) if as_json else str(built))
