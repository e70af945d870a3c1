"""A view is a pure function: its pixels do not depend on batch, order, threads, branches, or who asks."""

import gc

import numpy as np
import pytest
import torch

from stillroom.pipeline.augment.mixing import Mix
from stillroom.pipeline.augment.recipe import Views, draw_views
from stillroom.pipeline.config.sections import Views as Settings
from stillroom.pipeline.render.mixing import to_images
from stillroom.pipeline.render.renderer import Renderer, digests
from stillroom.pipeline.render.request import Request
from stillroom.storage.errors import DataError

VIEWS = 5
SIZE = 48


@pytest.fixture(scope="module")
def seeds(many_photos):
    return np.arange(len(many_photos.images), dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)


COLOUR = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}
SETTINGS = {
    "plain": ("dali-cpu", {}),
    "colour": ("dali-cpu", COLOUR),
    "integers": ("integer-cpu", {}),
    "integers, bicubic and steps": ("integer-cpu", {"preset": "deit", "mixup": True}),
}


@pytest.fixture(scope="module", params=SETTINGS)
def setting(request):
    return SETTINGS[request.param]


@pytest.fixture(scope="module")
def recipe(setting):
    return Settings.model_validate(setting[1]).recipe


@pytest.fixture(scope="module")
def backend(setting):
    return setting[0]


@pytest.fixture(scope="module")
def drawn(many_photos, recipe, seeds):
    return [draw_views(recipe, seeds, view, many_photos.height, many_photos.width) for view in range(VIEWS)]


@pytest.fixture(scope="module")
def reference(many_photos, drawn, recipe, backend):
    """All views, one at a time, in batches of 64: uint8 [view, image, SIZE, SIZE, 3]."""
    order = np.arange(len(many_photos.images))
    return torch.stack([render(many_photos.images, [views], recipe, backend, order, 64, 2)[0] for views in drawn])


def render(images, views: list[Views], recipe, backend, order, batch, threads, sizes=(SIZE,)):
    renderer = Renderer(sizes, batch, views=len(views), operations=recipe.acting, backend=backend, threads=threads)
    rows = [order[start : start + batch] for start in range(0, len(order), batch)]
    requests = [Request([images[i] for i in part], [item.take(part) for item in views]) for part in rows]
    pixels = torch.cat([rendered[0] for rendered in renderer.stream(requests)], dim=1)
    return pixels[:, torch.from_numpy(np.argsort(order))]


def test_there_are_a_thousand_real_views(many_photos):
    assert len(many_photos.images) * VIEWS >= 1000


@pytest.mark.parametrize(("batch", "threads"), [(1, 1), (7, 2), (64, 1)])
def test_pixels_do_not_depend_on_batch_or_threads(many_photos, drawn, recipe, backend, reference, batch, threads):
    order = np.arange(len(many_photos.images))
    assert torch.equal(render(many_photos.images, drawn, recipe, backend, order, batch, threads), reference)


def test_pixels_do_not_depend_on_order(many_photos, drawn, recipe, backend, reference):
    order = np.random.default_rng(0).permutation(len(many_photos.images))
    assert torch.equal(render(many_photos.images, drawn, recipe, backend, order, 33, 2), reference)


@pytest.mark.parametrize(("most", "expected"), [(64, [3, 2, 1, 2, 1, 1, 2]), (2, [2, 2, 1, 1, 2, 1, 1, 2])])
def test_a_request_that_is_rendered_in_parts_gives_the_same_pixels(
    photo_of_size, recipe, backend, monkeypatch, most, expected
):
    """Three tiles of pixels fit into memory; the image of four is a part by itself."""
    tiles = [1, 1, 1, 1, 2, 3, 1, 1, 4, 2, 2, 1]
    height = np.array([160 if count == 4 else 80 for count in tiles], np.int32)
    width = np.array([90 * count * 80 for count in tiles], np.int32) // height
    sizes = zip(height.tolist(), width.tolist(), strict=True)
    images = [photo_of_size(*size, number) for number, size in enumerate(sizes)]
    views = draw_views(recipe, np.arange(len(tiles), dtype=np.uint64), 0, height, width)
    monkeypatch.setattr("stillroom.pipeline.render.request.DECODED_PIXELS", 3 * 80 * 90)
    parts = Request(images, [views]).cut(height.astype(np.int64) * width, most)
    assert [len(part.images) for part in parts] == expected
    renderer = Renderer((SIZE,), 64, operations=recipe.acting, backend=backend)
    whole = renderer.render(Request(images, [views]))[0][0].clone()
    assert torch.equal(torch.cat([found[0] for found in renderer.stream(parts)], dim=1)[0], whole)


def test_a_new_stream_ends_the_one_before(many_photos, drawn, recipe, backend, reference):
    renderer = Renderer((SIZE,), 4, operations=recipe.acting, backend=backend)
    parts = [np.arange(start, start + 4) for start in range(0, 40, 4)]
    requests = [Request([many_photos.images[i] for i in part], [drawn[0].take(part)]) for part in parts]
    first = renderer.stream(requests)
    next(first)
    second = list(renderer.stream(requests[5:]))
    assert torch.equal(torch.cat([found[0][0] for found in second]), reference[0, 20:40])
    assert next(first, None) is None


def test_a_renderer_goes_on_after_an_image_that_does_not_decode(many_photos, drawn, recipe, backend, reference):
    renderer = Renderer((SIZE,), 4, operations=recipe.acting, backend=backend)
    rows = np.arange(4)
    good = Request([many_photos.images[i] for i in rows], [drawn[0].take(rows)])
    bad = Request([*good.images[:3], good.images[3][:200]], good.views)
    with pytest.raises(DataError, match="could not render"):
        renderer.render(bad)
    assert torch.equal(renderer.render(good)[0][0], reference[0, :4])


def test_several_views_of_one_decode_are_the_views_of_one_each(many_photos, drawn, recipe, backend, reference):
    order = np.arange(len(many_photos.images))
    assert torch.equal(render(many_photos.images, drawn, recipe, backend, order, 16, 2), reference)


def test_another_size_beside_it_changes_nothing(many_photos, drawn, recipe, backend, reference):
    order = np.arange(len(many_photos.images))
    assert torch.equal(render(many_photos.images, drawn[:2], recipe, backend, order, 16, 2, (SIZE, 24)), reference[:2])


def test_a_stream_that_is_left_early_does_not_leak_into_the_next(many_photos, drawn, recipe, backend, reference):
    renderer = Renderer((SIZE,), 4, operations=recipe.acting, backend=backend)
    parts = [np.arange(start, start + 4) for start in range(0, 40, 4)]
    requests = [Request([many_photos.images[i] for i in part], [drawn[0].take(part)]) for part in parts]
    stream = renderer.stream(requests)
    next(stream)
    stream.close()
    (pixels,) = renderer.render(requests[7])
    assert torch.equal(pixels[0], reference[0, 28:32])


def test_a_renderer_may_be_collected_together_with_a_stream_that_was_left(many_photos, drawn, recipe, backend):
    renderer = Renderer((SIZE,), 4, operations=recipe.acting, backend=backend)
    parts = [np.arange(start, start + 4) for start in range(0, 40, 4)]
    requests = [Request([many_photos.images[i] for i in part], [drawn[0].take(part)]) for part in parts]
    stream = renderer.stream(requests)
    next(stream)
    ring = [renderer, stream]
    ring.append(ring)
    del renderer, stream, ring
    gc.collect()  # what is raised there fails the test, too


def test_digests_tell_views_apart(reference):
    found = digests(reference[0])
    assert found.dtype == np.uint16
    assert np.array_equal(found, digests(reference[0].clone()))
    changed = reference[0].clone()
    changed[3, 5, 5, 1] ^= 1
    assert (digests(changed) != found).nonzero()[0].tolist() == [3]


def test_a_mixed_view_does_not_depend_on_its_batch(reference, recipe, seeds):
    mix = recipe.mixing.draw(seeds, 0)
    rows = np.arange(len(seeds))
    together = to_images(reference[0], rows, mix.partner.astype(np.int64), mix)
    for slot in range(len(seeds)):
        pair = reference[0][[slot, int(mix.partner[slot])]]
        alone = to_images(pair, np.array([0]), np.array([1]), mix.take(np.array([slot])))
        assert torch.equal(alone[0], together[slot])


def test_a_mixed_view_is_the_stated_sum(reference, recipe, seeds):
    mix = recipe.mixing.draw(seeds, 0)
    partner, share = mix.partner, mix.weight
    images = to_images(reference[0], np.array([5]), np.array([int(partner[5])]), mix.take(np.array([5])))
    own, other = (reference[0][i].numpy().astype(np.float64) for i in (5, int(partner[5])))
    expected = (share[5] * own + (1.0 - share[5]) * other) / 255.0
    np.testing.assert_allclose(images[0].permute(1, 2, 0).numpy(), expected, atol=1e-6)
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_an_image_that_is_alone_is_not_changed_by_mixing(reference):
    alone = Mix(np.array([2], np.int32), np.array([1.0], np.float32))
    images = to_images(reference[0], np.array([2]), np.array([2]), alone)
    assert torch.equal(images, to_images(reference[0][2:3]))
