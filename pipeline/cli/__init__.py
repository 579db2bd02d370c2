"""The command `oodwatch`: one module per group of commands."""
