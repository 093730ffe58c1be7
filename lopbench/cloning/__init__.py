"""Cloning: widening any network without changing its function, and certifying that its clones stay clones."""
