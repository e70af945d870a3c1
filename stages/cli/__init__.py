"""The command line: reads a config, chooses an executor, runs stages, says what came of it.

Public names: `main`, `run_stages`.
"""
