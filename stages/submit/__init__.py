"""Submitting a run to a cluster: a file for each stage, for people to read and edit; then the scheduler's command.

Public names: `submit_run`, `jobs_of`.
"""
