"""A temperature that a cache does not keep is told of, with what it keeps and what was measured."""

from types import SimpleNamespace

import pytest

from stillroom.pipeline.replay.codec_guarantee import faithfulness
from stillroom.storage.cache.teacher_logits import TeacherInfo
from stillroom.storage.ledger.ledger import Record
from stillroom.storage.writers.loss_summary import FACTS

LOST = {
    "name": "",
    "bytes_per_view": 3.0,
    "chunks": 2,
    "refined": 0,
    "exact": 0,
    "refine_max": 0,
    "rows": 10,
    "top1": 1.0,
    "temperatures": [1.0, 2.0, 5.0],
    "kl_mean": [0.3, 1.2, 2.5],
    "kl_p99": [0.0] * 3,
    "kl_max": [0.0] * 3,
}


def teacher(codec, temperatures=(1.0, 5.0), lost=LOST, blocks=1):
    cache = {"model": "d", "cache": {"temperatures": list(temperatures), "max_kl": 0.02}}
    info = TeacherInfo({}, 3, 4, codec, (), cache if codec == "transform" else {})
    records = {}
    for number in range(blocks):
        grown = lost and {**lost, "kl_mean": [(number + 1) * kl for kl in lost["kl_mean"]]}
        name = f"teachers/t/blocks/{number:06d}.000000"
        records[name] = Record(name, "", {}, {"views": 10, **({FACTS: grown} if grown else {})})
    read = []
    snapshot = SimpleNamespace(tasks=lambda: iter(records), get=lambda task: read.append(task) or records[task])
    return SimpleNamespace(name="t", info=info, ledger=SimpleNamespace(snapshot=lambda prefix: snapshot), read=read)


@pytest.mark.parametrize("temperature", [1.0, 3.0, 5.0])
def test_within_the_range_of_a_transform_nothing_is_said(temperature):
    found = faithfulness(teacher("transform"), temperature)
    assert found.note is None
    assert (found.guaranteed, found.max_kl) == ((1.0, 5.0), 0.02)


@pytest.mark.parametrize(("temperature", "measured"), [(0.5, "at 1: 0.3"), (5.5, "at 5: 2.5"), (20.0, "at 5: 2.5")])
def test_outside_of_it_range_bound_and_measurement_are_named(temperature, measured):
    note = faithfulness(teacher("transform"), temperature).note
    assert f"temperature {temperature:g}:" in note
    assert "KL · T² of 0.02 nats for temperatures 1 to 5 only" in note
    assert f"measured {measured} nats" in note


def test_a_single_temperature_is_no_range():
    note = faithfulness(teacher("transform", (2.0,)), 1.0).note
    assert "for temperature 2 only" in note


@pytest.mark.parametrize("codec", ["topk:10", "sqrtp", "int8"])
def test_the_other_lossy_codecs_guarantee_nothing_at_any_temperature(codec):
    found = faithfulness(teacher(codec), 2.0)
    assert f"is {codec}, which guarantees nothing" in found.note
    assert "measured at 2: 1.2 nats" in found.note
    assert found.guaranteed is None
    assert "guarantees nothing at any temperature" in faithfulness(teacher(codec, lost=None), 2.0).note


@pytest.mark.parametrize("codec", ["float16", "float32"])
def test_floats_keep_every_temperature(codec):
    assert faithfulness(teacher(codec), 100.0).note is None


def test_of_a_large_cache_some_blocks_are_read_which_are_spread_over_all_of_it_and_that_is_said():
    large = teacher("topk:10", blocks=640)
    found = faithfulness(large, 2.0)
    assert len(set(large.read)) == len(large.read) == 64
    assert found.kl == pytest.approx(1.2 * 320, rel=0.02)  # the first 64 blocks alone would say 39
    assert found.blocks == (64, 640)
    assert "measured at 2 over 64 of 640 blocks:" in found.note
    assert found.facts()["blocks"] == [64, 640]


def test_of_a_small_cache_all_blocks_are_read():
    found = faithfulness(teacher("topk:10", blocks=64), 2.0)
    assert found.kl == pytest.approx(1.2 * 32.5)
    assert found.blocks == (64, 64)
    assert "blocks" not in found.note
