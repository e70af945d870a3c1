"""Models by name, their weights and preprocessing; a teacher that is ready to answer; losses.

Knows nothing of shards or epochs. Public names: `build_model`, `load_teacher`, `LoadedTeacher`, `given_teacher`,
`kl_divergence`.
"""
