"""A setting that is added to the recipe, a teacher or a student refuses nothing that was made before there was one."""

from typing import ClassVar

import numpy as np
import pytest

from stillroom.pipeline.augment.operation import DaliOperation
from stillroom.pipeline.augment.recipe import Recipe
from stillroom.pipeline.config.sections import Student, Teacher
from stillroom.storage.errors import StoreError

FIRST = {
    Teacher: "name model weights size batch_size precision mean std",
    Student: """name target teacher teacher_weights design views_used model size epochs batch_size accumulate
        temperature weights label_weight ema optimizer schedule momentum precondition_steps learning_rate weight_decay
        warmup_steps clip precision seed lane_window proof_share eval_epochs checkpoint_minutes dir""",
}
"""Settings that every fingerprint states. Nothing is ever added here: what is new goes into the class's LATER."""


class Blur(DaliOperation):
    """An augmentation of a later version, or of a package."""

    op: ClassVar[str] = "blur-of-later"

    sigma: float = 1.0

    def draw(self, draws, heights, widths):
        return np.full(len(draws), self.sigma, np.float32)

    def apply(self, image, parameters, fn):
        return fn.gaussian_blur(image, sigma=parameters)


def test_a_recipe_without_later_operations_says_nothing_of_them():
    first = "area aspect flip mixup brightness contrast saturation hue"
    assert list(Recipe().to_data()) == first.split(), "the order in zarr.json, too"


def test_an_operation_that_is_not_here_is_refused_by_name():
    written = Recipe.of([Blur(sigma=0.5)]).to_data()
    assert written["augment"] == [{"op": "blur-of-later", "version": 1, "sigma": 0.5}]
    with pytest.raises(StoreError, match=r"no augmentation 'blur-of-later'.* install the package or the version"):
        Recipe.from_data(written)


def test_a_range_that_this_version_does_not_have_is_refused_by_name():
    with pytest.raises(StoreError, match=r"the recipe of this cache has blur = 0.5, which this version .* not know"):
        Recipe.from_data({**Recipe().to_data(), "blur": 0.5})


def test_the_recipe_of_a_cache_is_read_as_it_was_written():
    recipe = Recipe.of(area=(0.1, 0.5), hue=0.1, mixup=False)
    assert Recipe.from_data(recipe.to_data()) == recipe


@pytest.mark.parametrize("section", FIRST, ids=lambda section: section.__name__)
def test_every_setting_is_one_of_the_first_or_says_what_held_before_it(section):
    first = set(FIRST[section].split())
    assert first <= section.model_fields.keys()
    assert section.model_fields.keys() - first == section.LATER.keys()
    assert {name: section.model_fields[name].default for name in section.LATER} == dict(section.LATER)
