"""Replaying a cache: the order of an epoch, where targets come from, batches, and that views are the teacher's.

Knows nothing of models. Public names: `ReplayLoader`, `SharedPass`, `TargetSource`, `Order`, `Batch`.
"""
