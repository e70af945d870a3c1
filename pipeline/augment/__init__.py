"""Augmentations: what may be done to a view, how its parameters are drawn from seeds, and the recipe, which lists them.

Sees no pixel: `render` gives each operation the picture to act on. Imports neither torch nor DALI. Public names:
`Operation`, `Recipe`, `Views`, `draw_views`, `centre_views`, `operation_of`.
"""
