"""Real photos for the tests of pixels: those beside the project where they are, else photos-like JPEGs made here."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stillroom.pipeline.accept import Accepted, examine

PHOTOS = Path(__file__).parents[3] / "shared" / "data" / "photos"


@dataclass(frozen=True)
class Photos:
    """Encoded images and their upright sizes."""

    images: list[np.ndarray]
    height: np.ndarray
    width: np.ndarray


@pytest.fixture(scope="session")
def many_photos() -> Photos:
    """Two hundred images."""
    if PHOTOS.is_dir():
        images = [np.fromfile(path, np.uint8) for path in sorted(PHOTOS.glob("*.jpg"))[:200]]
    else:
        images = [_image(number) for number in range(200)]
    verdicts = examine(images, 10**8)
    assert all(isinstance(verdict, Accepted) for verdict in verdicts)
    sizes = np.array([(verdict.height, verdict.width) for verdict in verdicts], np.int32)
    return Photos(images, sizes[:, 0].copy(), sizes[:, 1].copy())


def _image(number: int) -> np.ndarray:
    generator = torch.Generator().manual_seed(number)
    height, width = 120 + number % 50, 100 + number % 70
    coarse = torch.rand(1, 3, 9, 9, generator=generator)
    fine = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1)
    sink = io.BytesIO()
    Image.fromarray((fine[0] * 255).to(torch.uint8).permute(1, 2, 0).numpy()).save(sink, "JPEG", quality=90)
    return np.frombuffer(sink.getvalue(), np.uint8)
