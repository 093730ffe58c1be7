"""Cloners: widening a trained network without changing its function."""

from lopbench import Register, hookimpl


@hookimpl
def lopbench_cloners(register: Register) -> None:
    """Register the built-in cloners by name of module and class, so that listing them imports no torch."""
    package = "lopbench_plugins.cloners"
    register("interleave", f"{package}.interleave:Interleave", "every unit beside its clones, all of equal weights")
    register("tile", f"{package}.tile:Tile", "whole copies of each layer one after another, all of equal weights")
    register("equitable", f"{package}.equitable:Equitable", "clones that compute the same with different weights")
    register("noisy", f"{package}.noisy:Noisy", "clones told apart by noise, the practice of growing networks")
