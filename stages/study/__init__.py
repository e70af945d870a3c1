"""A study on your own images, made of ordinary runs within a budget of time; one page of findings.

Public names: `Study`, `Wishes`, `arms_of`.
"""
