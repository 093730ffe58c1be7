"""The stack of replicas: its networks, training steps, engines, optimizers, units and probes."""
