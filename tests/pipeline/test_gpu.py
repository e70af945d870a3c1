"""The same on a GPU: views are pure there too. `make test-gpu` runs these; elsewhere they are left out."""

import numpy as np
import pytest
import torch

from stillroom.pipeline.augment.mixing import Mix
from stillroom.pipeline.augment.recipe import Recipe, draw_views
from stillroom.pipeline.device.prefetch import Ahead
from stillroom.pipeline.device.streams import streams_of
from stillroom.pipeline.models.factory import Preprocessing
from stillroom.pipeline.render import renderer as render_module
from stillroom.pipeline.render.mixing import to_images
from stillroom.pipeline.render.renderer import Renderer, digests
from stillroom.pipeline.render.request import Request
from stillroom.pipeline.render.view_digests import Hasher

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU"),
]
SIZE = 96


def render(photos, views, order, batch, threads=2):
    renderer = Renderer((SIZE,), batch, operations=Recipe().acting, backend="dali-gpu", threads=threads)
    parts = [order[start : start + batch] for start in range(0, len(order), batch)]
    requests = [Request([photos.images[i] for i in part], [views.take(part)]) for part in parts]
    pixels = torch.cat([found[0][0] for found in renderer.stream(requests)])
    return pixels[torch.from_numpy(np.argsort(order)).to(pixels.device)]


@pytest.fixture(scope="module")
def views(many_photos):
    seeds = np.arange(len(many_photos.images), dtype=np.uint64)
    return draw_views(Recipe(), seeds, 0, many_photos.height, many_photos.width)


@pytest.mark.parametrize(("batch", "threads"), [(1, 1), (7, 2), (64, 2), (200, 4)])
def test_pixels_do_not_depend_on_batch_order_or_threads(many_photos, views, batch, threads):
    rows = np.arange(len(many_photos.images))
    reference = render(many_photos, views, rows, 32)
    assert reference.device.type == "cuda"
    shuffled = np.random.default_rng(0).permutation(rows)
    assert torch.equal(render(many_photos, views, shuffled, batch, threads), reference)


@pytest.mark.parametrize("depth", [1, 4])
def test_pixels_do_not_depend_on_how_far_ahead_they_are_rendered(many_photos, views, monkeypatch, depth):
    rows = np.arange(len(many_photos.images))
    reference = render(many_photos, views, rows, 16)
    monkeypatch.setattr(render_module, "_AHEAD", depth)
    assert torch.equal(render(many_photos, views, rows, 16), reference)


def test_many_views_of_a_decode_are_those_rendered_alone(many_photos, views):
    other = draw_views(Recipe(), np.arange(200, dtype=np.uint64), 1, many_photos.height, many_photos.width)
    rows = np.arange(len(many_photos.images))
    both = Renderer((SIZE, 64), 200, views=2, operations=Recipe().acting, backend="dali-gpu")
    (large, small) = both.render(Request(many_photos.images, [views, other]))
    assert large.shape == (2, 200, SIZE, SIZE, 3)
    assert small.shape == (2, 200, 64, 64, 3)
    assert torch.equal(large[0], render(many_photos, views, rows, 50))
    assert torch.equal(large[1], render(many_photos, other, rows, 50))


def test_batches_that_are_held_are_not_written_again(many_photos, views):
    """All are held while others are rendered and while torch works on them: DALI must not use their memory again."""
    rows = np.arange(len(many_photos.images))
    parts = [rows[start : start + 20] for start in range(0, 200, 20)] * 4
    requests = [Request([many_photos.images[i] for i in part], [views.take(part)]) for part in parts]
    reference = render(many_photos, views, rows, 32)
    held, busy = [], torch.rand(2048, 2048, device="cuda")
    for (found,) in Renderer((SIZE,), 20, operations=Recipe().acting, backend="dali-gpu").stream(requests):
        for _ in range(20):
            busy = torch.tanh(busy @ busy)  # torch's stream is behind DALI's
        held.append(found[0])
    for part, found in zip(parts, held, strict=True):
        assert torch.equal(found, reference[torch.from_numpy(part).cuda()])


def test_batches_that_are_let_go_of_early_are_read_whole(many_photos, views):
    """What torch has queued on them is done before DALI has their memory back, though nothing refers to them."""
    rows = np.arange(len(many_photos.images))
    parts = [rows[start : start + 20] for start in range(0, 200, 20)] * 4
    requests = [Request([many_photos.images[i] for i in part], [views.take(part)]) for part in parts]
    reference = render(many_photos, views, rows, 32)
    copies, busy = [], torch.rand(2048, 2048, device="cuda")
    for (found,) in Renderer((SIZE,), 20, operations=Recipe().acting, backend="dali-gpu").stream(requests):
        for _ in range(20):
            busy = torch.tanh(busy @ busy)
        copies.append(found[0].clone())
        del found
    for part, found in zip(parts, copies, strict=True):
        assert torch.equal(found, reference[torch.from_numpy(part).cuda()])


def test_two_runs_give_the_same_digests(many_photos, views):
    rows = np.arange(len(many_photos.images))
    assert np.array_equal(*(digests(render(many_photos, views, rows, 64)) for _ in range(2)))


def test_mixing_gives_the_same_floats_as_on_the_cpu(many_photos, views):
    rows = np.arange(len(many_photos.images))
    pixels = render(many_photos, views, rows, 64)
    mix = Recipe().mixing.draw(rows.astype(np.uint64), 0)
    mixed = to_images(pixels, rows, mix.partner.astype(np.int64), mix)
    assert torch.equal(mixed.cpu(), to_images(pixels.cpu(), rows, mix.partner.astype(np.int64), mix))


def test_every_level_and_share_is_mixed_and_normalised_to_the_same_bits():
    """All 65,536 pairs of levels, each with a share of its own."""
    levels = torch.arange(256, dtype=torch.uint8)
    pixels = levels.view(256, 1, 1, 1).expand(-1, 1, 1, 3).contiguous()
    own, other = np.indices((256, 256)).reshape(2, -1).astype(np.int64)
    share = np.random.default_rng(0).random(65536, dtype=np.float32)
    found = {
        device: to_images(pixels.to(device), own, other, Mix(own.astype(np.int32), share)) for device in ("cpu", "cuda")
    }
    assert torch.equal(found["cuda"].cpu(), found["cpu"])
    normalise = Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert torch.equal(normalise(found["cuda"]).cpu(), normalise(found["cpu"]))


def test_what_is_fetched_is_what_was_queued_before_it(many_photos):
    streams = streams_of(torch.device("cuda", 0))
    busy = torch.rand(2048, 2048, device="cuda")
    arrivals = []
    for number in range(20):
        busy = torch.tanh(busy @ busy)
        arrivals.append(streams.fetch(torch.full((1000, 1000), number, device="cuda") + (busy.sum() * 0).int()))
    assert [int(item.get().float().mean()) for item in arrivals] == list(range(20))
    assert all(item.get().is_pinned() for item in arrivals)


def test_digests_beside_the_work_are_those_of_the_pixels(many_photos, views):
    pixels = render(many_photos, views, np.arange(200), 64)
    hasher = Hasher(streams_of(pixels.device))
    asked = [hasher.begin(pixels[start : start + 50]) for start in range(0, 200, 50)]
    assert np.array_equal(np.concatenate([found() for found in asked]), digests(pixels))


def test_items_made_ahead_are_whole_when_they_are_used():
    """Made on a stream of their own, behind long work; used on the caller's without asking the host."""

    def made():
        for number in range(30):
            busy = torch.rand(2048, 2048, device="cuda")
            for _ in range(10):
                busy = torch.tanh(busy @ busy)
            yield torch.full((256, 1024), number, device="cuda") + (busy.sum() * 0).int()

    streams = streams_of(torch.device("cuda", 0))
    sums = [item.double().mean() for item in Ahead(made(), streams, lambda item: [item])]
    assert [float(item) for item in sums] == list(range(30))


def test_views_of_the_gpu_are_close_to_those_of_the_cpu(many_photos, views):
    rows = np.arange(len(many_photos.images))
    here = render(many_photos, views, rows, 64).cpu().float()
    there = (
        Renderer((SIZE,), len(rows), operations=Recipe().acting)
        .render(Request(many_photos.images, [views]))[0][0]
        .float()
    )
    psnr = 10 * torch.log10(255.0**2 / (here - there).square().mean())
    print(f"PSNR {psnr:.1f} dB, equal bytes {float((here == there).float().mean()):.4f}")
    assert psnr > 35
