"""What blocks say of their own loss: nothing for float32, little for float16, and sums that are those of all rows."""

import numpy as np
import pytest
from codec_logits import CLASSES, teacher_logits

from stillroom.storage.cache.cache import Cache, CacheInfo, create_cache
from stillroom.storage.cache.teacher_logits import TeacherInfo
from stillroom.storage.codecs.kinds import parse_codec
from stillroom.storage.codecs.registry import fidelity
from stillroom.storage.errors import ConfigError
from stillroom.storage.ledger.ledger import Ledger
from stillroom.storage.objects.urls import open_place
from stillroom.storage.writers import block
from stillroom.storage.writers.loss_summary import FACTS, join_losses
from stillroom.storage.writers.teacher import TeacherWriter

SIZES = (50, 20)
TEMPERATURES = (2.0, 5.0)


def blocks_of(folder, codec):
    """Logits by data shard, what is read back, and the records' facts."""
    place = open_place(str(folder))
    create_cache(place, CacheInfo({}, 1, {"data": "d"}, SIZES, 2), [np.arange(n, dtype=np.uint64) for n in SIZES])
    info = TeacherInfo({"model": "m"}, CLASSES, 4, codec, ())
    its = TeacherWriter(Ledger(place), Cache(place).layout, "t", info, {"data": "d"}, 2, None, TEMPERATURES)
    its.lay_out()
    logits = [teacher_logits(2 * size, seed=size).reshape(2, size, CLASSES) for size in SIZES]
    facts = [
        block.write_block(
            its, shard, 0, rows, np.zeros(rows.shape[:2], np.uint16), {}, {"views": 2 * SIZES[shard]}
        ).facts
        for shard, rows in enumerate(logits)
    ]
    teacher = Cache(place).teacher("t")
    read = [np.stack([teacher.logits(shard, view) for view in (0, 1)]) for shard in range(len(SIZES))]
    return logits, read, facts


def test_float32_loses_nothing(tmp_path):
    _, _, facts = blocks_of(tmp_path, "float32")
    lost = join_losses(facts)
    assert lost["kl_max"] == [0.0, 0.0, 0.0]
    assert lost["top1"] == 1.0


@pytest.mark.parametrize("codec", ["float16", "int8", "topk:5", "sqrtp"])
def test_the_sum_over_blocks_is_that_of_all_rows(tmp_path, codec):
    logits, read, facts = blocks_of(tmp_path, codec)
    lost = join_losses(facts)
    both = [np.concatenate([part.reshape(-1, CLASSES) for part in parts]) for parts in (logits, read)]
    found = fidelity(*both, (1.0, *TEMPERATURES))
    assert lost["temperatures"] == [1.0, 2.0, 5.0]
    np.testing.assert_allclose(lost["kl_mean"], [item.mean for item in found], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(lost["kl_max"], [item.worst for item in found], rtol=1e-3, atol=1e-4)
    assert lost["top1"] == pytest.approx(found[0].top1, abs=1e-5)
    assert (lost["blocks"], lost["views"], lost["exact"], lost["refined"]) == (2, 140, 0, 0)


def test_blocks_of_older_caches_say_nothing():
    assert join_losses([{"views": 3}]) is None


def test_only_common_temperatures_are_added_up(tmp_path):
    _, _, facts = blocks_of(tmp_path, "int8")
    fewer = {**facts[1], FACTS: {**facts[1][FACTS], "temperatures": [1.0, 7.0, 5.0]}}
    lost = join_losses([facts[0], fewer])
    assert lost["temperatures"] == [1.0, 5.0]
    first, second = (item[FACTS]["kl_mean"][2] for item in (facts[0], fewer))
    assert lost["kl_mean"][1] == pytest.approx((100 * first + 40 * second) / 140)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("topk:0", "whole number of classes, 1 or more"),
        ("topk:2.5", "whole number of classes"),
        ("topk:many", "takes a number after the colon"),
        ("sqrtp:2", "between 1/4096 and 1"),
        ("transform:3", "choose one of"),
        ("float16:", "choose one of"),
    ],
)
def test_a_wrong_parameter_is_named(name, said):
    with pytest.raises(ConfigError, match=said) as raised:
        parse_codec(name)
    assert repr(name) in str(raised.value)


def test_names_come_apart():
    parts = {name: parse_codec(name) for name in ("topk", "topk:7", "sqrtp", "sqrtp:0.1", "transform", "int8")}
    assert {name: (kind.name, number) for name, (kind, number) in parts.items()} == {
        "topk": ("topk", 10.0),
        "topk:7": ("topk", 7.0),
        "sqrtp": ("sqrtp", 0.05),
        "sqrtp:0.1": ("sqrtp", 0.1),
        "transform": ("transform", None),
        "int8": ("int8", None),
    }
