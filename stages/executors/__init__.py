"""Executors beside the one in this process: a share of an array of jobs, and torchrun's ranks. Know no stage.

Public names: `ArrayJob`, `Job`, `Ranked`.
"""
