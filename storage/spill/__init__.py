"""Bytes and rows beyond an allowance of memory, in files without a name, which end with their process.

Knows nothing of what they hold. Public names: `Spool`, `RowStore`, `nameless_file`.
"""
