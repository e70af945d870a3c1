"""What a stage, a task and an executor are; where a run keeps things; progress, and being asked to stop.

Knows no stage by its work. Public names: `Stage`, `Task`, `Executor`, `InProcess`, `execute`, `stage_named`.
"""
