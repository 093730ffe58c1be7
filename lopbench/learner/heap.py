"""Lets the C library keep the memory that a step frees, so that the next step need not ask the kernel for it again."""

from __future__ import annotations

import torch

#: Bytes of a block just below 32 MiB, the largest whose freeing raises the limits of glibc.
_LARGEST = 2**25 - 2**13


def keep_freed_memory() -> None:
    """Make glibc keep up to 64 MiB of freed memory in the process.

    glibc returns the free memory at the end of its heap to the kernel if that is more than twice the largest block that
    was freed so far. If that block was small, the gradients of a network of some megabytes are returned in each step
    and get new pages in the next. This can take longer than all arithmetic. So this function frees one large block,
    once. The pages of the block are never touched. Other C libraries are not affected.
    """
    torch.empty(_LARGEST, dtype=torch.uint8)
