"""Writing a teacher's logits: arrays laid out, blocks, plain views, pilot, evaluation; and what their encoding lost.

Public names: `TeacherWriter`, `BlockWriter`, `PlainWriter`, `write_pilot`, `join_losses`.
"""
