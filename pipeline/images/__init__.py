"""Single images: whether one can be used, decoding one in a process of its own, making one smaller.

Knows nothing of shards or labels. Public names: `examine`, `Quarantine`, `Accepted`, `Rejected`, `shrunk`, `runs`.
"""
