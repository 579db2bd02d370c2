"""Which device there is, and what its failures mean."""

import torch

from pipeline.errors import UsageError


def device_of(name: str) -> torch.device:
    """The named device; auto: the first GPU, else the CPU. Raises UsageError for one that cannot be used."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        said = str(error).splitlines()[0]
        raise UsageError(f"device {name!r} cannot be used: {said}; use cpu, or auto") from error
    return device


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a smaller batch may fit."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def is_fatal(error: BaseException) -> bool:
    """Whether the device's context is poisoned: after such an error every later call fails as well."""
    if isinstance(error, torch.OutOfMemoryError):
        return False
    return isinstance(error, torch.AcceleratorError) or (isinstance(error, RuntimeError) and "CUDA error" in str(error))


def free_memory() -> None:
    """Give cached blocks back to the device."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
