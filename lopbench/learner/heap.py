"""Lets the C library keep the memory that a step frees, so that the next step need not ask the kernel for it again."""

from __future__ import annotations

import torch

#: Bytes of a block just below the largest by which glibc sets its limits, 32 MiB.
_LARGEST = 2**25 - 2**13


def keep_freed_memory() -> None:
    """Let up to 64 MiB that were freed stay with the process.

    glibc gives what is free at the end of its heap back to the kernel once it is more than twice the largest block that
    it has seen freed. Where that was small, the gradients of a network of some megabytes are given back in each step
    and get new pages in the next, which can take longer than all arithmetic. So a large block is freed once. Its
    pages are never touched, and other C libraries lose nothing by it.
    """
    torch.empty(_LARGEST, dtype=torch.uint8)
