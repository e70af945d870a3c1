"""Random numbers as pure functions: Philox, seeds of samples, draws; logarithms that every machine rounds alike.

Public names: `philox4x32`, `seeds_of`, `uid_of`, `draw`, `permutation`.
"""
