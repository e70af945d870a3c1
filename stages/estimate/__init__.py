"""Estimate: a timed probe of the teacher's work, and arithmetic from there to a plan. Keeps the pilot alone.

Public names: `estimate`, `Probe`, `forecast`.
"""
