"""Real photos for the tests of pixels: pieces of the two that come with scikit-learn."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stillroom.pipeline.images.decode_check import Accepted, examine

COUNT = 200


@dataclass(frozen=True)
class Photos:
    """Encoded images and their upright sizes."""

    images: list[np.ndarray]
    height: np.ndarray
    width: np.ndarray


@pytest.fixture(scope="session")
def photo_of_size() -> Callable[[int, int, int], np.ndarray]:
    """`photo_of_size(height, width, number)`: a piece of a photo, encoded as the number says; at most 427 × 640."""
    from sklearn.datasets import load_sample_images

    photographs = [Image.fromarray(pixels) for pixels in load_sample_images().images]

    def make(height: int, width: int, number: int) -> np.ndarray:
        whole = photographs[number % 2]
        draw = np.random.default_rng(number)
        left, top = (
            int(draw.integers(side - part + 1)) for side, part in zip(whole.size, (width, height), strict=True)
        )
        piece = whole.crop((left, top, left + width, top + height))
        sink = io.BytesIO()
        if number % 10 == 9:
            piece.save(sink, "PNG", compress_level=1)
        else:
            piece.save(sink, "JPEG", quality=60 + 7 * (number % 6), subsampling=number % 3)
        return np.frombuffer(sink.getvalue(), np.uint8)

    return make


@pytest.fixture(scope="session", params=["pieces", pytest.param("real", marks=pytest.mark.real_data)])
def many_photos(request: pytest.FixtureRequest, photo_of_size: Callable[[int, int, int], np.ndarray]) -> Photos:
    """Two hundred images of many sizes; as an extra test, two hundred whole photos."""
    if request.param == "real":
        folder: Path = request.getfixturevalue("real_data") / "photos"
        images = [np.fromfile(path, np.uint8) for path in sorted(folder.glob("*.jpg"))[:COUNT]]
    else:
        draw = np.random.default_rng(0)
        images = [photo_of_size(*draw.integers((120, 140), (400, 560)).tolist(), number) for number in range(COUNT)]
    assert len(images) == COUNT
    verdicts = examine(images, 10**8)
    assert all(isinstance(verdict, Accepted) for verdict in verdicts)
    sizes = np.array([(verdict.height, verdict.width) for verdict in verdicts], np.int32)
    return Photos(images, sizes[:, 0].copy(), sizes[:, 1].copy())
