"""Looking after a run: what is done and how fast, what killed writers left, sealing a finished ledger.

Public names: `status_of`, `collect`, `seal_cache`.
"""
