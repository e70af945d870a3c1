"""Executors beside the one in this process, by name; a share of an array of jobs; torchrun's ranks. Know no stage.

Public names: `executor_named`, `ArrayJob`, `Job`, `Ranked`.
"""
