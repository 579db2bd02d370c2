"""Files that commands write: whole or not at all."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import EnvironmentFault


@contextlib.contextmanager
def written_whole(out: Path, cure: str) -> Iterator[Path]:
    """A path to write to, moved to `out` at the end: a reader never sees half of it.

    A link stays a link; a device or a pipe, as /dev/stdout, is written to as it is.
    Raises EnvironmentFault with the cure where the file cannot be written; `out` is then as it was.
    """
    out = out.resolve()
    if out.exists() and not out.is_file() and not out.is_dir():
        yield out
        return
    partial = out.with_name(out.name + ".part")
    try:
        yield partial
        partial.replace(out)
    except OSError as error:
        raise EnvironmentFault(f"{out}: {error.strerror or error}; {cure}") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
