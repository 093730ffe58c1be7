"""Executors: what starts the workers of a study."""

from lopbench import Register, hookimpl


@hookimpl
def lopbench_executors(register: Register) -> None:
    """Register the built-in executors by name of module and class: what they use is imported with them."""
    package = "lopbench_plugins.executors"
    register("local", f"{package}.local:Local", "processes of this machine")
    register("slurm", f"{package}.slurm:Slurm", "an array of jobs of SLURM, by sbatch")
    register("dask", f"{package}.dask:Dask", "tasks of a Dask cluster, through its scheduler (lopbench[dask])")
    register("script", f"{package}.script:Script", "commands to be started by hand, or by any other batch system")
