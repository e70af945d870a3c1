"""The pilot's draw: the same wherever it is made, from few data shards, of views that are the teacher's own."""

import numpy as np
import pytest
import torch
from trials.answers import into

from stillroom.pipeline.augment.recipe import Recipe
from stillroom.pipeline.models.factory import build_model, preprocessing_of
from stillroom.pipeline.models.teacher import LoadedTeacher
from stillroom.pipeline.render.renderer import Renderer
from stillroom.pipeline.rng.seeds import seeds_of
from stillroom.pipeline.teacher.blocks import BlockMaker
from stillroom.pipeline.teacher.pilot_sample import MOST_SHARDS, draw_pilot
from stillroom.storage.dataset.index import ShardIndex

GOLDEN = [(0, [22, 38], [8, 20, 26]), (1, [4, 15, 18, 24], [0, 7, 27]), (2, [17, 33, 44], [3, 4, 22])]


def places(drawn):
    return {(part.shard, slot, view) for part in drawn for slot in part.slots.tolist() for view in part.views.tolist()}


def test_a_draw_is_a_function_of_its_arguments():
    sizes = (900, 1000, 400)
    assert places(draw_pilot(sizes, 300, 8, 30, 5)) == places(draw_pilot(sizes, 300, 8, 30, 5))
    assert places(draw_pilot(sizes, 300, 8, 30, 5)) != places(draw_pilot(sizes, 300, 8, 30, 6))


def test_golden_draws_stay_as_they_are():
    first = draw_pilot((50, 70, 60), 9, 3, 30, 7)
    assert [(part.shard, part.slots.tolist(), part.views.tolist()) for part in first] == GOLDEN


@pytest.mark.parametrize(
    ("sizes", "samples", "views", "count", "rows"),
    [
        ((1000,) * 5000, 300, 8, 30, 2400),
        ((1000, 1000, 37), 300, 8, 30, 2400),
        ((100, 50), 300, 8, 30, 2400),
        ((100, 50), 300, 8, 4, 600),
        ((3,), 300, 8, 30, 90),
        ((7, 5), 300, 1, 1, 12),
    ],
)
def test_as_many_rows_as_were_asked_for_where_there_are(sizes, samples, views, count, rows):
    drawn = draw_pilot(sizes, samples, views, count, 1)
    assert sum(part.rows for part in drawn) == rows == len(places(drawn))
    assert len(drawn) <= MOST_SHARDS
    for part in drawn:
        assert part.slots.max() < sizes[part.shard]
        assert part.views.max() < count
        assert (np.diff(part.slots) > 0).all()
        assert (np.diff(part.views) > 0).all()


def test_samples_are_spread_over_the_data_shards_by_their_size():
    drawn = draw_pilot((800, 100, 100), 300, 8, 30, 1)
    assert {part.shard: len(part.slots) for part in drawn} == {0: 240, 1: 30, 2: 30}


@pytest.fixture(scope="module")
def teacher():
    torch.manual_seed(1)
    model = build_model("timm:test_resnet", 5).eval().requires_grad_(False)

    def of(batch_size):
        return LoadedTeacher("t", model, preprocessing_of(model), "float32", batch_size, torch.device("cpu"), 5, {})

    return of


@pytest.mark.parametrize("mixup", [True, False])
def test_answers_to_some_slots_are_those_of_the_whole_block(many_photos, teacher, mixup):
    count = 24
    numbers = np.arange(count)
    index = ShardIndex(
        numbers.astype(np.uint64),
        tuple(map(str, numbers)),
        (numbers % 5).astype(np.int32),
        *(numbers.astype(np.int64),) * 2,
        many_photos.height[:count],
        many_photos.width[:count],
        numbers.astype(np.uint64),
    )
    images, seeds = many_photos.images[:count], seeds_of(index.uid, 3)
    recipe, slots, views = Recipe.of(mixup=mixup), np.array([2, 3, 11, 23]), [0, 5]

    def maker(batch, together, branches):
        renderer = Renderer((32,), together, views=branches, operations=recipe.acting, threads=1)
        return BlockMaker(teacher(batch), recipe, renderer, together)

    whole = np.full((2, count, 5), np.nan, np.float32)
    maker(8, 8, 2).make(index, images, seeds, views, into(whole))
    for batch, together in ((8, 8), (3, 5), (64, 24)):
        some = maker(batch, together, 1)
        for place, view in enumerate(views):
            answers = some.answer(index, images, seeds, view, slots)
            np.testing.assert_allclose(answers, whole[place, slots], atol=1e-5)
