"""Contracts: interfaces, hooks, registry, specs, random streams. Knows no concrete component."""
