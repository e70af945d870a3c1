"""Logits for the codec tests: like a teacher's, small, and seeded."""

import numpy as np
from numpy.typing import NDArray

CLASSES = 24


def teacher_logits(rows: int, classes: int = CLASSES, seed: int = 0) -> NDArray[np.float32]:
    """Rows with a falling spectrum, unequal confidence and a constant offset, float32 [rows, classes]."""
    fixed = np.random.default_rng(7)
    axes = np.linalg.qr(fixed.standard_normal((classes, classes)))[0]
    spread = 8 / (1 + np.arange(classes)) ** 0.8
    mean = fixed.standard_normal(classes)
    rng = np.random.default_rng(seed)
    scale = np.exp(0.4 * rng.standard_normal((rows, 1)))
    out = (rng.standard_normal((rows, classes)) * scale * spread) @ axes + mean + rng.standard_normal((rows, 1))
    return out.astype(np.float32)
