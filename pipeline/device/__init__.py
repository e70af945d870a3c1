"""This process's device: which one, streams and copies beside its work, its memory, and the ranks beside it.

Knows tensors and processes; nothing of images or models. Public names: `own_device`, `Streams`, `Ahead`, `Graph`,
`Buffers`, `Ranks`, `keep_freed_memory`.
"""
