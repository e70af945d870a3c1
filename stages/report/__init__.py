"""The report: one HTML page of what a cache holds and costs, its views, and how students did. Only reads the run.

Public names: `STAGE`, `page`, `as_toml`.
"""
