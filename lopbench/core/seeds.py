"""How seeds are written, how large they may be, and how many of them."""

from collections.abc import Collection

from lopbench.core.errors import UsageError

#: Largest seed: what 64 bits hold.
MOST_SEED = 2**63 - 1

#: Most seeds of one study.
MOST_SEEDS = 10_000


def check_seeds(seeds: Collection[int]) -> None:
    """Refuse seeds that no study has.

    Raises:
        UsageError: If one is negative or too large, or there are too many.
    """
    for seed in seeds:
        if not 0 <= seed <= MOST_SEED:
            raise UsageError(f"seeds are whole numbers from 0 to {MOST_SEED:,}, got {seed}")
    if len(seeds) > MOST_SEEDS:
        raise UsageError(f"a study has at most {MOST_SEEDS:,} seeds, and these are more")


def parse_seeds(text: str) -> tuple[int, ...]:
    """Return the seeds that ``3``, ``0,2,5``, ``0-4`` or a mixture names, each once, in the order given.

    Raises:
        UsageError: If the text is none of these, or names too many or too large ones.
    """
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        # Not isdigit: it accepts superscripts, which int refuses.
        if not (first.isdecimal() and (last.isdecimal() if dash else True)):
            raise UsageError(f"{text!r} are no seeds; write 3, or 0,2,5, or 0-4")
        digits = max(len(first), len(last))
        if digits > len(str(MOST_SEED)):  # Python itself takes no number of 5,000 digits
            raise UsageError(f"seeds are at most {MOST_SEED:,}, got one of {digits} digits")
        start, stop = int(first), int(last if dash else first)
        if stop < start:
            raise UsageError(f"seeds {part.strip()!r} count down; write {stop}-{start}")
        if stop - start >= MOST_SEEDS - len(seeds):
            raise UsageError(f"{text[:40]!r} are more than {MOST_SEEDS:,} seeds")
        seeds.extend(range(start, stop + 1))
    return tuple(dict.fromkeys(seeds))
