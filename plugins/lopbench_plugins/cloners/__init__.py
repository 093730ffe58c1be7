"""Cloners: widening a trained network without changing its function."""
