"""Pixels: steps carried out on rendered views, in integers, so that a CPU and a GPU come to the same bits.

`compiled` is the way on a CPU, `tensors` the one on a GPU. Knows nothing of seeds, operations or DALI. Public names:
`Painter`, `Placed`.
"""
