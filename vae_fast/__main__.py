"""`python -m vae_fast` is the command line."""

from vae_fast.cli import main

main()
