"""Weights: reading files of every usual form, finding the state dict in them, and fitting its names to a model.

`file` reads, `state_dict` finds, `fit` fits, `digest` says which file it is. Runs no code that a file brings.
Public names: `Weights`, `read_weights`, `load_weights`, `start_from`, `weights_digest`.
"""
