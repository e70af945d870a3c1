"""Every operation there is: documented, drawn as the golden file says, in words; and recipes of them."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from cases import CASES, called, made
from hypothesis import given
from hypothesis import strategies as st

from stillroom.pipeline.augment.mixing import PairMixing
from stillroom.pipeline.augment.operation import FOREIGN, Draws, Operation, PixelOperation
from stillroom.pipeline.augment.presets import PRESETS
from stillroom.pipeline.augment.recipe import Recipe, draw_views
from stillroom.pipeline.augment.registry import mixing_of, operation_of, registered
from stillroom.pipeline.config.sections import Views
from stillroom.storage.errors import ConfigError, StoreError

GOLDEN = Path(__file__).with_name("golden.json")
PAGE = Path(__file__).parents[3] / "docs" / "augmentations.md"
SEEDS = np.arange(8, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
HEIGHTS = np.array([10, 300, 333, 480, 64, 1, 2000, 77], np.int32)
WIDTHS = np.array([10, 200, 500, 640, 64, 9, 1500, 33], np.int32)
VIEWS = (0, 5, 4_000_000_000)
MIXINGS = [
    {"op": "mixup"},
    {"op": "mixup", "alpha": 0.2},
    {"op": "mixup", "alpha": 3.0},
    {"op": "cutmix"},
    {"op": "cutmix", "alpha": 0.5},
]
OTHERS = [{"op": "crop"}, {"op": "flip"}, {"op": "colour", "hue": 0.2}, {"op": "vertical_flip"}]


def drawn_now() -> dict[str, list]:
    found = {}
    for case in [*OTHERS, *CASES]:
        operation = operation_of(case)
        found[called(case)] = [
            operation.draw(Draws(SEEDS, view, operation.number), HEIGHTS, WIDTHS).tolist() for view in VIEWS
        ]
    for case in MIXINGS:
        way = mixing_of(case)
        for view in VIEWS:
            weight, box = way.draw(Draws(SEEDS, view, way.number))
            rows = [weight.tolist(), None if box is None else box.tolist()]
            found.setdefault(called(case), []).append(rows)
    return found


def test_draws_are_those_of_the_golden_file():
    """To add an operation, add its rows: `python -m pytest` prints what is missing. Rows never change."""
    golden, now = json.loads(GOLDEN.read_text()), drawn_now()
    assert golden.keys() == now.keys(), {name: now[name] for name in now.keys() - golden.keys()}
    assert golden == now


@pytest.mark.parametrize("name", sorted(registered()))
def test_each_has_a_number_a_page_and_golden_rows(name):
    kind = registered()[name]
    assert kind.number < FOREIGN
    assert f"### `{name}`" in PAGE.read_text() or kind.number < 4, "the first ones' ranges are settings of [views]"
    assert any(row.partition("-")[0] == name for row in json.loads(GOLDEN.read_text()))
    for field, of in kind.model_fields.items():
        assert of.description, f"{name}.{field} says nothing of itself"


def test_numbers_are_never_given_twice():
    numbers = [kind.number for kind in registered().values()]
    assert len(set(numbers)) == len(numbers)
    assert not {3, 23} & set(numbers), "those of pairs and of the choice among ways of mixing"


@pytest.mark.parametrize("case", [*OTHERS[1:], *CASES], ids=called)
def test_what_was_done_is_said_in_words_and_only_where_something_was(case):
    operation = operation_of(case)
    drawn = operation.draw(Draws(np.arange(200, dtype=np.uint64), 0, operation.number), None, None)
    told = [operation.told(row) for row in drawn]
    if isinstance(operation, PixelOperation):
        assert [bool(words) for words in told] == drawn[:, :, 0].any(axis=1).tolist()
    assert len({words for words in told if words}) >= 1


@pytest.mark.parametrize("case", CASES, ids=called)
def test_draws_do_not_depend_on_what_else_is_in_the_recipe(case):
    operation = made(case)
    alone = draw_views(Recipe.of([operation], mixup=False), SEEDS, 3, HEIGHTS, WIDTHS)
    others = [made(other) for other in CASES if other["op"] != case["op"] and other["op"] in ("invert", "equalize")]
    among = draw_views(Recipe.of([*others, operation], hue=0.1), SEEDS, 3, HEIGHTS, WIDTHS)
    assert np.array_equal(alone.drawn[operation.op], among.drawn[operation.op])
    some = operation.draw(Draws(SEEDS[3:5], 3, operation.number), HEIGHTS[3:5], WIDTHS[3:5])
    assert np.array_equal(some, alone.drawn[operation.op][3:5])


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1))
def test_a_probability_of_none_leaves_no_step(seed, view):
    for case in CASES:
        operation = made({**case, "p": 0.0})
        assert not operation.acts
        assert not operation.draw(Draws(np.array([seed], np.uint64), view, operation.number), None, None).any()


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_recipe_that_is_written_and_read_back(name):
    views = Views.model_validate({"preset": name})
    recipe = views.recipe
    assert Recipe.from_data(json.loads(json.dumps(recipe.to_data()))) == recipe
    assert Views.model_validate(views.model_dump()).recipe == recipe
    assert f"| `{name}` |" in PAGE.read_text()


def test_what_is_given_beside_a_preset_goes_before_it():
    views = Views.model_validate({"preset": "deit", "area": [0.3, 1.0], "augment": [{"op": "invert"}]})
    assert views.recipe.operations[0].area == (0.3, 1.0)
    assert [item.op for item in views.recipe.operations[3:]] == ["invert"]
    assert [way.op for way in views.recipe.mixing.ways] == ["mixup", "cutmix"]
    assert not Views.model_validate({"preset": "deit", "mixup": False}).recipe.mixup
    assert Views.model_validate({"preset": "deit", "mixup": True}).recipe.mixing == Recipe().mixing
    assert Views.model_validate({"preset": "paper"}).recipe == Recipe()


def test_the_config_of_the_issue_is_read():
    views = Views.model_validate(
        {
            "preset": "paper",
            "resize": "bicubic-antialias",
            "augment": [
                {"op": "randaugment", "n": 2, "magnitude": 9, "std": 0.5},
                {"op": "random_erasing", "p": 0.25},
            ],
            "mix": [{"op": "mixup", "alpha": 0.8, "p": 0.5}, {"op": "cutmix", "alpha": 1.0, "p": 0.5}],
        }
    )
    data: Mapping = views.recipe.to_data()
    assert data["resize"] == "bicubic-antialias"
    assert [item["op"] for item in data["augment"]] == ["randaugment", "random_erasing"]
    assert [(item["op"], item["p"]) for item in data["mix"]] == [("mixup", 0.5), ("cutmix", 0.5)]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"augment": [{"op": "randaugmnt"}]}, r"no augmentation 'randaugmnt'; did you mean 'randaugment'"),
        ({"augment": [{"op": "randaugment", "magnitud": 3}]}, r"has no 'magnitud'; did you mean 'magnitude'"),
        ({"augment": [{"op": "randaugment", "magnitude": 31}]}, r"'randaugment': magnitude: .* or equal to 30"),
        ({"augment": [{"op": "invert"}, {"op": "invert"}]}, r"'invert' stands twice"),
        ({"augment": [{"op": "crop"}]}, r"'crop' stands twice"),
        ({"augment": [{"op": "invert"}, {"op": "vertical_flip"}]}, r"'vertical_flip' comes after 'invert'.*first"),
        ({"augment": [{"op": "cutmix"}]}, r"'cutmix' is no augmentation; it belongs into views.mix"),
        ({"mix": [{"op": "invert"}]}, r"'invert' is no mixing; it belongs into views.augment"),
        ({"mix": [{"op": "mixup", "p": 0.6}, {"op": "cutmix", "p": 0.5}]}, r"add up to 1.1"),
        ({"mix": [{"op": "mixup", "p": 0.4}, {"op": "mixup", "p": 0.5}]}, r"'mixup' stands twice in views.mix"),
        ({"mix": [{"op": "mixup", "alpha": 0}]}, r"'mixup': alpha: .* greater than 0"),
        ({"mix": [{"op": "mixup"}], "mixup": False}, r"views.mix says .* views.mixup = false"),
        ({"preset": "diet"}, r"views.preset is 'diet'; did you mean 'deit'"),
        ({"augment": [{"op": "random_erasing", "area": [0.5, 0.1]}]}, r"area is \[0.5, 0.1\]"),
        ({"augment": [{"op": "gaussian_blur", "sigma": [2, 1]}]}, r"sigma is \[2.0, 1.0\]"),
        ({"crop_share": 0.5}, r"views.crop_share is 0.5, and views.crop is \"random\""),
    ],
)
def test_what_is_wrong_is_named(settings, said):
    with pytest.raises(ValueError, match=said):
        Views.model_validate(settings)


@pytest.mark.parametrize("field", ["augment", "mix"])
def test_a_cache_of_what_is_not_installed_is_refused_by_name(field):
    data = {**Recipe(mixing=Recipe.of(mixup=False).mixing).to_data(), field: [{"op": "fog", "version": 1}]}
    with pytest.raises(StoreError, match=r"'fog'.*install the package or the version that brings it"):
        Recipe.from_data(data)


def test_a_cache_of_another_version_is_refused_by_name():
    data = {**Recipe().to_data(), "augment": [{"op": "invert", "version": 2, "p": 0.5}]}
    with pytest.raises(StoreError, match=r"'invert' is wanted in version 2, here is version 1"):
        Recipe.from_data(data)


def test_an_operation_and_a_way_of_mixing_are_told_apart():
    kinds = registered().values()
    assert all(issubclass(kind, Operation | PairMixing) for kind in kinds)
    with pytest.raises(ConfigError, match=r"belongs into views.mix"):
        operation_of({"op": "mixup"})
