"""The Dask executor: a fleet of workers, waves of tasks on it, Slurm's jobs as workers. Knows no stage.

Public names: `Dask`, `Fleet`, `open_fleet`.
"""
