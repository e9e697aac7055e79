"""What this package gains on a machine: `vae-fast bench`, and the cases of `make bench`."""
