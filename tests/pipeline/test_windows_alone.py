"""A window that is decoded for itself has the pixels of one that is cut from the whole image, in every format."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from stillroom.pipeline.augment.operations.geometry.crop import Crop
from stillroom.pipeline.augment.operations.geometry.flip import Flip
from stillroom.pipeline.augment.recipe import Views
from stillroom.pipeline.render.renderer import Renderer
from stillroom.pipeline.render.request import Request

SIZE = 40
WINDOWS = 24
EXIF_ORIENTATION = 0x112


def encode(picture, kind, **options):
    sink = io.BytesIO()
    picture.save(sink, kind, **options)
    return np.frombuffer(sink.getvalue(), np.uint8)


def turned(orientation):
    def make(picture):
        exif = picture.getexif()
        exif[EXIF_ORIENTATION] = orientation
        return encode(picture, "JPEG", exif=exif, subsampling=2)

    return make


FORMATS = {
    **{
        f"jpeg {name}{' progressive' if progressive else ''}": lambda picture, s=subsampling, p=progressive: encode(
            picture, "JPEG", subsampling=s, progressive=p
        )
        for subsampling, name in enumerate(("4:4:4", "4:2:2", "4:2:0"))
        for progressive in (False, True)
    },
    **{f"jpeg turned {number}": turned(number) for number in range(2, 9)},
    "jpeg with restarts": lambda picture: encode(picture, "JPEG", restart_marker_rows=1),
    "jpeg grey": lambda picture: encode(picture.convert("L"), "JPEG"),
    "jpeg cmyk": lambda picture: encode(picture.convert("CMYK"), "JPEG"),
    "png": lambda picture: encode(picture, "PNG"),
    "png palette": lambda picture: encode(picture.convert("P"), "PNG"),
    "png alpha": lambda picture: encode(picture.convert("RGBA"), "PNG"),
    "webp": lambda picture: encode(picture, "WEBP"),
    "webp lossless": lambda picture: encode(picture, "WEBP", lossless=True),
    "bmp": lambda picture: encode(picture, "BMP"),
    "tiff": lambda picture: encode(picture, "TIFF"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_window_decoded_alone_is_the_window_cut_from_the_whole(many_photos, name):
    rng = np.random.default_rng(0)
    images, sizes, windows = [], [], []
    for photo in many_photos.images[:3]:
        picture = Image.open(io.BytesIO(photo.tobytes())).convert("RGB")
        # No multiple of a JPEG's blocks.
        picture = picture.resize((int(rng.integers(97, 250)) | 1, int(rng.integers(97, 250)) | 1))
        encoded = FORMATS[name](picture)
        width, height = picture.size
        if name in {f"jpeg turned {number}" for number in range(5, 9)}:
            width, height = height, width
        images += [encoded] * WINDOWS
        sizes += [(height, width)] * WINDOWS
    for number, (height, width) in enumerate(sizes):
        rows, columns = (int(rng.integers(1, side + 1)) if number % 8 else side for side in (height, width))
        windows.append((rng.integers(height - rows + 1), rng.integers(width - columns + 1), rows, columns))
    views = Views({"crop": np.array(windows, np.int32), "flip": rng.integers(0, 2, len(windows)).astype(np.int32)})
    alone = Renderer((SIZE,), len(images), operations=(Crop(), Flip())).render(Request(images, [views]))[0][0]
    # With a second view, the upper left quarter of each window, the image is decoded whole for both.
    quarter = np.concatenate([views.window[:, :2], np.maximum(1, views.window[:, 2:] // 2)], axis=1)
    request = Request(images, [views, Views({**views.drawn, "crop": quarter})])
    together = Renderer((SIZE,), len(images), views=2, operations=(Crop(), Flip())).render(request)[0][0]
    assert torch.equal(alone, together)
    assert len(alone.unique()) > 50
