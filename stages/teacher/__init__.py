"""Seeds and the teacher's pass: what there is to do, which takes neither torch nor DALI, and doing it.

Public names: `STAGE` of `seeds` and of `stage`, `open_cache`, `loaded_teacher`, `teacher`.
"""
