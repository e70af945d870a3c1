"""Each image gets a verdict, in order."""

import numpy as np
import pytest

from stillroom.pipeline.images import decode_check
from stillroom.pipeline.images.decode_check import Accepted, Rejected, examine


def test_verdicts_come_in_the_order_of_the_images(many_photos):
    images = [many_photos.images[0], np.zeros(0, np.uint8), many_photos.images[1]]
    first, second, third = examine(images, 10**8)
    assert first == Accepted(int(many_photos.height[0]), int(many_photos.width[0]))
    assert isinstance(second, Rejected)
    assert third == Accepted(int(many_photos.height[1]), int(many_photos.width[1]))


def test_an_image_that_gets_no_verdict_is_a_fault_of_ours_and_never_left_out(many_photos, monkeypatch):
    """It would have moved every later verdict to the image before."""
    monkeypatch.setattr(decode_check, "runs", lambda places, *_: [places[:-1]])
    with pytest.raises(AssertionError, match="1 images were not judged"):
        examine(many_photos.images[:3], 10**8)
