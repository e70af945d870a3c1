"""Trials of faults, counted: the tests run a small share of each, `benchmarks/faults.py` all of it."""
