"""The stack of replicas: its training step, optimizers, units and probe."""
