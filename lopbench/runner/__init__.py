"""From a run spec to its record: execution with checkpoints, studies of many runs, executors."""
