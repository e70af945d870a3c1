"""Mixing of pairs of views: by how much, or where. One way a module; knows no pixel. Public names:
`Mixup`, `CutMix`, `symmetric_beta`."""
