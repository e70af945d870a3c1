"""Verify: every object against the ledger, the ledger against the tasks, and a share of the views made again.

Public names: `STAGE`, `repair`, `Failure`, `Finding`.
"""
