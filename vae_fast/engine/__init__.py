"""What works on the table of losses, whichever they are; nothing here names a likelihood."""
