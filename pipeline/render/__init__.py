"""Rendering: encoded images and drawn parameters in, pixels out; mixing into floats; digests of views.

Knows nothing of seeds, labels or caches. Public names: `Renderer`, `Request`, `to_images`, `digests`, `Hasher`.
"""
