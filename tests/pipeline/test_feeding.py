"""Arrays that are lent to DALI and not copied: the same pixels, kept as long as needed, and let go of afterwards."""

import weakref
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from stillroom.pipeline.augment.recipe import Recipe, Views, draw_views
from stillroom.pipeline.render.renderer import Renderer, digests
from stillroom.pipeline.render.request import Request

SIZE, BATCH, BATCHES = 48, 10, 12
RECIPE = Recipe.of(area=(0.2, 1.0), mixup=False)


class Fleeting(Sequence[np.ndarray]):
    """Images that are made when they are asked for, and that nobody but the asker holds."""

    def __init__(self, images):
        self._images, self.given = images, []

    def __len__(self):
        return len(self._images)

    def __getitem__(self, place):
        image = self._images[place].copy()
        self.given.append(weakref.ref(image))
        return image


@pytest.fixture
def views(many_photos):
    seeds = np.arange(len(many_photos.images), dtype=np.uint64)
    return draw_views(RECIPE, seeds, 0, many_photos.height, many_photos.width)


@pytest.fixture
def renderer():
    return Renderer((SIZE,), BATCH, operations=RECIPE.acting)


def requests(photos, views):
    """Batches of images and parameters that only their request holds."""
    for start in range(0, BATCH * BATCHES, BATCH):
        rows = np.arange(start, start + BATCH)
        yield Request(Fleeting([photos.images[row] for row in rows]), [views.take(rows)])


def test_arrays_that_nobody_else_holds_give_the_pixels_of_arrays_that_stay(many_photos, views, renderer):
    fleeting = []
    for (pixels,) in renderer.stream(requests(many_photos, views)):
        fleeting.append(pixels[0].clone())
        np.full(2_000_000, 255, np.uint8)  # whoever is given memory that was let go of writes on it
    alone = Renderer((SIZE,), 1, operations=RECIPE.acting)
    for row in range(0, BATCH * BATCHES, 7):
        (one,) = alone.render(Request([many_photos.images[row]], [views.take(np.array([row]))]))
        assert torch.equal(one[0, 0], fleeting[row // BATCH][row % BATCH])


def test_a_few_batches_are_held_and_no_more(many_photos, views, renderer):
    given = list(requests(many_photos, views))
    held = []
    for _ in renderer.stream(iter(given)):
        held.append(sum(image() is not None for request in given for image in request.images.given))
    assert 0 < max(held) <= 5 * BATCH
    assert not any(image() for request in given for image in request.images.given)


def test_a_column_that_is_not_contiguous_is_fed_row_by_row(many_photos, views, renderer):
    rows = np.arange(BATCH)
    drawn = {name: values[rows] for name, values in views.drawn.items()}
    strided = {name: np.repeat(values, 2, axis=0)[::2] for name, values in drawn.items()}
    images = many_photos.images[:BATCH]
    (expected,) = renderer.render(Request(images, [Views(drawn)]))
    (found,) = renderer.render(Request(images, [Views(strided)]))
    assert torch.equal(expected, found)


@pytest.mark.parametrize("size", [48, 42, 7, 224])
def test_a_batch_has_the_digests_of_its_views_one_by_one(size):
    """Of 42 pixels a view is no whole number of words; of 7 it is short."""
    import xxhash

    pixels = torch.randint(0, 256, (5, size, size, 3), dtype=torch.uint8)
    assert digests(pixels).tolist() == [xxhash.xxh3_64_intdigest(view.numpy()) & 0xFFFF for view in pixels]
    assert digests(pixels[:0]).shape == (0,)
