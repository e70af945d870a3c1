"""The ledger: records of finished tasks, claims on those in hand, notes of those that failed, and sealing's parts.

Knows objects and digests; nothing of arrays, images or stages. Public names: `Ledger`, `Record`, `ObjectDigest`,
`Claims`, `Snapshot`, `refuse_difference`.
"""
