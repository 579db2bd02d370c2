"""The command `oodwatch`, and `python -m pipeline`."""

from pipeline.models.process import keep_freed_memory

keep_freed_memory()  # before an import starts a thread: arenas that exist by then stay

from pipeline.cli.app import main  # noqa: E402

__all__ = ["main"]

if __name__ == "__main__":
    main()
