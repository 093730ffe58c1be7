"""How large seeds may be, and how many of them."""

#: Largest seed: what 64 bits hold.
MOST_SEED = 2**63 - 1

#: Most seeds of one study.
MOST_SEEDS = 10_000
