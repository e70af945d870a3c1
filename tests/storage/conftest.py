"""Fixtures of the storage floor."""

import pytest
from codec_logits import teacher_logits

from stillroom.storage.codecs.registry import TransformModel, fit


@pytest.fixture(scope="session")
def transform_model() -> TransformModel:
    """A transform fitted on 600 rows of 24 classes."""
    return fit(teacher_logits(600, seed=1))
