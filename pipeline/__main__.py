"""The command `oodwatch`, and `python -m pipeline`."""

from pipeline.cli.app import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
