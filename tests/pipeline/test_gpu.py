"""The same on a GPU: views are pure there too. `make test-gpu` runs these; elsewhere they are left out."""

import numpy as np
import pytest
import torch

from stillroom.pipeline.mix import to_images
from stillroom.pipeline.recipe import Recipe, draw_partners, draw_views
from stillroom.pipeline.render import Renderer, digests
from stillroom.pipeline.request import Request

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU"),
]
SIZE = 96


def render(photos, views, order, batch):
    renderer = Renderer((SIZE,), batch, backend="dali-gpu")
    parts = [order[start : start + batch] for start in range(0, len(order), batch)]
    requests = [Request([photos.images[i] for i in part], [views.take(part)]) for part in parts]
    pixels = torch.cat([found[0][0] for found in renderer.stream(requests)])
    return pixels[torch.from_numpy(np.argsort(order)).to(pixels.device)]


@pytest.fixture(scope="module")
def views(many_photos):
    seeds = np.arange(len(many_photos.images), dtype=np.uint64)
    return draw_views(Recipe(), seeds, 0, many_photos.height, many_photos.width)


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_pixels_do_not_depend_on_batch_or_order(many_photos, views, batch):
    rows = np.arange(len(many_photos.images))
    reference = render(many_photos, views, rows, 32)
    assert reference.device.type == "cuda"
    assert torch.equal(render(many_photos, views, np.random.default_rng(0).permutation(rows), batch), reference)


def test_two_runs_give_the_same_digests(many_photos, views):
    rows = np.arange(len(many_photos.images))
    assert np.array_equal(*(digests(render(many_photos, views, rows, 64)) for _ in range(2)))


def test_mixing_gives_the_same_floats_as_on_the_cpu(many_photos, views):
    rows = np.arange(len(many_photos.images))
    pixels = render(many_photos, views, rows, 64)
    partner, share = draw_partners(Recipe(), rows.astype(np.uint64), 0)
    mixed = to_images(pixels, rows, partner.astype(np.int64), share)
    assert torch.equal(mixed.cpu(), to_images(pixels.cpu(), rows, partner.astype(np.int64), share))


def test_views_of_the_gpu_are_close_to_those_of_the_cpu(many_photos, views):
    rows = np.arange(len(many_photos.images))
    here = render(many_photos, views, rows, 64).cpu().float()
    there = Renderer((SIZE,), len(rows)).render(Request(many_photos.images, [views]))[0][0].float()
    psnr = 10 * torch.log10(255.0**2 / (here - there).square().mean())
    print(f"PSNR {psnr:.1f} dB, equal bytes {float((here == there).float().mean()):.4f}")
    assert psnr > 35
