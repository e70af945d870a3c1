"""Codecs: from rows of logits to the bytes of a Zarr chunk, by name. Knows nothing of views or teachers.

Public names: `logit_codec`, `parse_codec`, `fit`, `TransformModel`, `divergence`. Each codec has a module in `rows`;
the fitted one is in `transform`.
"""
