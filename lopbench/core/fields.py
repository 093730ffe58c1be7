"""Fields of components that say themselves what they accept, and at which value they do nothing.

A number with bounds, its strength zero and whether it may differ between the replicas of a program is written once:
``strength: float = number(1e-4, least=0, zero=0, swept=True)``.
"""
