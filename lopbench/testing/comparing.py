"""Compares tensors, to the bit or within a tolerance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from lopbench.testing.check import Mismatch


def differing(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], *sections: str) -> list[str]:
    """Return the names of the tensors that are not the same to the bit, in all sections or in those named."""
    names = [n for n in sorted({*ours, *theirs}) if not sections or n.partition("/")[0] in sections]
    return [n for n in names if n not in ours or n not in theirs or not same(ours[n], theirs[n])]


def same(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors are the same to the bit, NaN being equal to NaN."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return bool(((one == other) | (one.isnan() & other.isnan())).all())


def listed(names: Sequence[str], most: int = 4) -> str:
    """Return a few names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def close(found: Tensor, expected: Tensor, tolerance: float, what: str) -> None:
    """Refuse what differs from ``expected`` by more than ``tolerance``.

    Raises:
        Mismatch: If an entry does, or shapes differ; it names ``what``.
    """
    difference = float((found.double() - expected.double()).abs().nan_to_num(nan=float("inf")).max())
    if found.shape != expected.shape or not difference <= tolerance:
        raise Mismatch(f"{what}, to {tolerance:g}", f"a difference of {difference:.2g}")
