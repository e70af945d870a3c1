"""Data sets: tars in WebDataset's form, an index of each, and their encoded images by slot.

Never decodes an image. Public names: `Dataset`, `ShardIndex`, `Allowance`, `pack`, `picked`.
"""
