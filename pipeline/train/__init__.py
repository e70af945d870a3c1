"""One student's training steps, and its optimisers. Knows nothing of files, epochs or where targets come from.

Public names: `Trainer`, `build_optimizer`, `Shampoo`.
"""
