"""A setting that is added to the recipe, a teacher or a student refuses nothing that was made before there was one."""

from dataclasses import dataclass
from typing import ClassVar

import pytest

from stillroom.pipeline.recipe import Recipe
from stillroom.pipeline.settings import Student, Teacher
from stillroom.storage.errors import StoreError
from stillroom.storage.fingerprint import refuse_difference

FIRST = {
    Teacher: "name model weights size batch_size precision mean std",
    Student: """name target teacher teacher_weights design views_used model size epochs batch_size accumulate
        temperature weights label_weight ema optimizer schedule momentum precondition_steps learning_rate weight_decay
        warmup_steps clip precision seed lane_window proof_share eval_epochs checkpoint_minutes dir""",
}
"""Settings that every fingerprint states. Nothing is ever added here: what is new goes into the class's LATER."""


@dataclass(frozen=True)
class Newer(Recipe):
    """The recipe of a later version."""

    LATER: ClassVar = {"blur": 0.0}

    blur: float = 0.0


def test_a_newer_recipe_without_its_new_augmentation_is_the_old_one():
    old = Recipe(area=(0.2, 0.9), flip=False).to_data()
    newer = Newer(area=(0.2, 0.9), flip=False)
    assert newer.to_data() == old
    assert Newer.from_data(old) == newer
    refuse_difference("cache", {"views": old}, {"views": newer.to_data()}, "")


def test_an_augmentation_that_this_version_does_not_have_is_refused_by_name():
    written = Newer(blur=0.5).to_data()
    assert Newer.from_data(written).blur == 0.5
    with pytest.raises(StoreError, match=r"the recipe of this cache has blur = 0.5, which this version .* not know"):
        Recipe.from_data(written)


def test_the_recipe_of_a_cache_is_read_as_it_was_written():
    recipe = Recipe(area=(0.1, 0.5), hue=0.1, mixup=False)
    assert Recipe.from_data(recipe.to_data()) == recipe


@pytest.mark.parametrize("section", FIRST, ids=lambda section: section.__name__)
def test_every_setting_is_one_of_the_first_or_says_what_held_before_it(section):
    first = set(FIRST[section].split())
    assert first <= section.model_fields.keys()
    assert section.model_fields.keys() - first == section.LATER.keys()
    assert {name: section.model_fields[name].default for name in section.LATER} == dict(section.LATER)
