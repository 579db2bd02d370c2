"""The process around a model: two defaults that cost more CPU time than all the rest of the pipeline.

Measured with ResNet-50 on two cores, batches of 16: 66 ms an image with them, 44 ms without.
"""

import ctypes

# mallopt's options in glibc's malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGEST_INT = 2**31 - 1


def keep_freed_memory() -> None:
    """Let the C library keep what a forward pass on the CPU frees, for the next one.

    By default glibc maps large arrays anew each time and gives them back: a third of the time of a
    forward pass are then page faults. One arena, because threads' own ones cannot hold large arrays;
    it must be asked for before a second thread has made its own. The process stays at its peak size.
    Other C libraries have no `mallopt` and are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_MMAP_THRESHOLD, 2**30)
        mallopt(_M_TRIM_THRESHOLD, _LARGEST_INT)


def calm_blas() -> None:
    """One thread for NumPy's products: OpenBLAS's others spin, 64 ms of CPU for a product of 0.2 ms."""
    from threadpoolctl import threadpool_limits  # of workers; the command itself starts without it

    threadpool_limits(limits=1, user_api="blas")
