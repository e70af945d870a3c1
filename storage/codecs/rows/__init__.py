"""Codecs that keep each row by itself, what all of them share, and how far a decoded row is from the teacher's.

Public names: `RowCodec`, `Int8Codec`, `TopKCodec`, `SqrtPCodec`, `divergence`, `fidelity`.
"""
