"""Transform coding of logits: centred, rotated by a pilot's principal axes, quantised, entropy-coded (docs/codecs.md).

Public names: `TransformCodec`, `TransformModel`, `fit`.
"""
