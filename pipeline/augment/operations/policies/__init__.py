"""Policies: operations that choose at random among the others' steps. `magnitudes` says what a level means.

Knows no pixel. Public names: `RandAugment`, `TrivialAugmentWide`, `AutoAugment`.
"""
