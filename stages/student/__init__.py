"""Students: what one is made from, one in training, its checkpoints and figures; alone or several from one pass.

Public names: `STAGE` of `stage` and of `train_many`, `Session`, `student_fingerprint`.
"""
