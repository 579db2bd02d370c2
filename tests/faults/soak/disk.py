"""A small disk of its own, that can be filled."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path


class SmallDisk:
    """A tmpfs; only root may mount one."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        folder.mkdir(parents=True)
        folder.chmod(0o755)
        self.folder = folder
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0777", "tmpfs", str(folder)], check=True)

    @contextlib.contextmanager
    def filled(self) -> Iterator[None]:
        """Not a byte is left meanwhile."""
        ballast = self.folder / "ballast"
        try:
            with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
                while file.write(bytes(1 << 12)) == 1 << 12:
                    pass
            yield
        finally:
            ballast.unlink()

    def close(self) -> None:
        """Unmount, whoever still has a file open there."""
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)


def may_mount() -> bool:
    """Whether this process could make one."""
    return os.geteuid() == 0
