"""The cache on disk: its layout, and reading it through a store that checks every object against the ledger.

Never writes logits. Public names: `Cache`, `CacheInfo`, `create_cache`, `Layout`, `TeacherLogits`, `CheckedStore`.
"""
