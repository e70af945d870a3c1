"""Where pixels come from: crops, flips, affine maps, padding; and erasing. One operation a module, and `affine`, which
several share. Knows no pixel. Public names: `Crop`, `Flip`.
"""
