"""Every codec: names, round trips, and its life inside a sharded Zarr array."""

import json
import tomllib
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import xarray
import zarr
from codec_logits import CLASSES, teacher_logits
from zarr.registry import get_codec_class
from zarr.storage import LocalStore, MemoryStore

from stillroom.storage.codecs.kinds import codec_kinds
from stillroom.storage.codecs.registry import (
    Int8Codec,
    LogitCodec,
    SqrtPCodec,
    TopKCodec,
    TransformCodec,
    TransformModel,
    fidelity,
    logit_codec,
)
from stillroom.storage.errors import ConfigError, DamagedObjectError, ModelError

NAMES = ["float16", "float32", "int8", "sqrtp", "topk", "topk:4", "transform"]
LOSSY = ["int8", "sqrtp", "topk", "transform"]


def create(store, codec: LogitCodec, shape=(2, 4, 60, CLASSES), dtype=None):
    shards = (1, 2, *shape[2:])
    return zarr.create_array(
        store,
        shape=shape,
        shards=shards,
        chunks=(1, 1, *shape[2:]),
        dtype=dtype or codec.dtype,
        serializer=codec.serializer,
        compressors=codec.compressors,
        fill_value=float("nan"),
        dimension_names=["shard", "view", "slot", "class"],
    )


def filled(shape=(2, 4, 60, CLASSES), unused=7):
    values = teacher_logits(int(np.prod(shape[:-1])), shape[-1], seed=3).reshape(shape)
    values[:, :, shape[2] - unused :] = np.nan
    return values


def test_all_names_are_known():
    assert {name.partition(":")[0] for name in NAMES} == set(codec_kinds())


def test_an_unknown_name_says_what_there_is():
    with pytest.raises(ConfigError, match=r"choose one of float16, float32, int8, topk\[:K\], sqrtp"):
        logit_codec("jpeg")


@pytest.mark.parametrize("name", ["topk:many", "topk:0", "sqrtp:0", "sqrtp:nan", "int8:3"])
def test_a_parameter_that_cannot_be_is_refused(name):
    with pytest.raises(ConfigError):
        logit_codec(name)


def test_a_transform_needs_a_pilot():
    with pytest.raises(ConfigError, match="pilot"):
        logit_codec("transform")


def test_entry_points_name_the_registered_codecs():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    declared = project["project"]["entry-points"]["zarr.codecs"]
    assert set(declared) == {f"stillroom.{name}" for name in LOSSY}
    for name, target in declared.items():
        module, _, attribute = target.partition(":")
        assert get_codec_class(name) is getattr(import_module(module), attribute)


@pytest.mark.parametrize("name", NAMES)
def test_a_sharded_array_gives_back_what_the_codec_promises_and_nan_where_unused(name, transform_model):
    codec = logit_codec(name, transform_model)
    store = MemoryStore()
    values = filled()
    create(store, codec)[:] = values
    read = zarr.open_array(store, mode="r")[:]
    assert np.array_equal(np.isnan(read), np.isnan(values))
    losses = fidelity(values, read)
    if name == "transform":
        assert max(loss.mean for loss in losses) <= 0.02
    elif name == "float32":
        assert np.array_equal(read, values, equal_nan=True)
    elif name in ("float16", "int8"):
        assert max(loss.mean for loss in losses) < 2e-3
    else:
        assert losses[0].mean < 0.2


@pytest.mark.parametrize("name", NAMES)
def test_one_view_reads_the_same_alone(name, transform_model):
    store = MemoryStore()
    create(store, logit_codec(name, transform_model))[:] = filled()
    array = zarr.open_array(store, mode="r")
    assert np.array_equal(array[1, 2], array[:][1, 2], equal_nan=True)


@pytest.mark.parametrize("name", LOSSY)
def test_a_float16_array_takes_every_codec(name, transform_model):
    store = MemoryStore()
    values = filled().astype(np.float16)
    create(store, logit_codec(name, transform_model), dtype="float16")[:] = values
    read = zarr.open_array(store, mode="r")[:]
    assert read.dtype == np.float16
    assert np.array_equal(np.isnan(read), np.isnan(values))


def test_an_integer_array_is_refused():
    with pytest.raises(ConfigError, match="int32"):
        zarr.create_array(
            MemoryStore(), shape=(4, 5), chunks=(4, 5), dtype="int32", serializer=logit_codec("int8").serializer
        )


@pytest.mark.parametrize("name", NAMES)
def test_xarray_opens_the_cache(name, transform_model, tmp_path):
    group = zarr.open_group(tmp_path / "cache", mode="w")
    codec = logit_codec(name, transform_model)
    group.create_array(
        "logits",
        shape=(1, 2, 60, CLASSES),
        shards=(1, 2, 60, CLASSES),
        chunks=(1, 1, 60, CLASSES),
        dtype=codec.dtype,
        serializer=codec.serializer,
        compressors=codec.compressors,
        fill_value=float("nan"),
        dimension_names=["shard", "view", "slot", "class"],
    )[:] = filled((1, 2, 60, CLASSES))
    with xarray.open_zarr(tmp_path / "cache", consolidated=False) as data:
        assert data.logits.dims == ("shard", "view", "slot", "class")
        assert np.isfinite(data.logits.isel(slot=slice(0, 53)).values).all()
        assert np.isnan(data.logits.isel(slot=59).values).all()


def test_the_metadata_names_the_model_by_its_digest_and_holds_it(transform_model, tmp_path):
    create(LocalStore(tmp_path / "a"), logit_codec("transform", transform_model))
    metadata = json.loads((tmp_path / "a" / "zarr.json").read_text())
    inner = metadata["codecs"][0]["configuration"]["codecs"][0]
    assert inner["name"] == "stillroom.transform"
    assert inner["configuration"]["digest"] == transform_model.digest
    assert TransformCodec.from_dict(inner).model.to_bytes() == transform_model.to_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_any_flipped_bit_in_a_shard_raises(name, transform_model, tmp_path):
    create(LocalStore(tmp_path), logit_codec(name, transform_model), shape=(1, 2, 8, CLASSES))[:] = filled(
        (1, 2, 8, CLASSES), unused=1
    )
    (path,) = [p for p in (tmp_path / "c").rglob("*") if p.is_file()]
    clean = path.read_bytes()
    assert np.isfinite(zarr.open_array(tmp_path, mode="r")[:, :, :7]).all(), "it reads as it is"
    rng = np.random.default_rng(0)
    for at in rng.choice(len(clean), min(60, len(clean)), replace=False):
        damaged = bytearray(clean)
        damaged[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(damaged))
        with pytest.raises(Exception, match=r".") as caught:  # zarr's own index raises its own errors
            zarr.open_array(tmp_path, mode="r")[:]
        assert not isinstance(caught.value, IndexError | MemoryError | RecursionError)


def all_codecs(model: TransformModel):
    return [Int8Codec(), TopKCodec(4), SqrtPCodec(0.05), TransformCodec(model)]


@pytest.mark.parametrize("which", range(4))
def test_damaged_or_foreign_chunks_raise_damaged_object_error(which, transform_model):
    codec = all_codecs(transform_model)[which]
    rows = teacher_logits(20, seed=4)
    data = codec.encode_rows(rows)
    assert codec.decode_rows(data, 20, CLASSES).shape == (20, CLASSES)
    for bad in (b"", data[:5], data[:-1], data + b"\0", data[1:], bytes(len(data))):
        with pytest.raises(DamagedObjectError):
            codec.decode_rows(bad, 20, CLASSES)
    with pytest.raises(DamagedObjectError, match="rows"):
        codec.decode_rows(data, 21, CLASSES)
    with pytest.raises(DamagedObjectError):
        codec.decode_rows(data, 20, CLASSES + 1)
    with pytest.raises(DamagedObjectError):
        all_codecs(transform_model)[(which + 1) % 4].decode_rows(data, 20, CLASSES)


@pytest.mark.parametrize("which", range(4))
def test_bodies_with_a_good_checksum_and_wrong_content_raise_or_give_rows_but_never_crash(which, transform_model):
    codec = all_codecs(transform_model)[which]
    body = bytearray(codec.encode_body(teacher_logits(20, seed=4)))
    rng = np.random.default_rng(1)
    outcomes = set()
    for trial in range(200):
        bad = bytearray(body)
        if trial % 3 == 0:
            bad = bad[: int(rng.integers(len(bad)))]
        else:
            for at in rng.integers(len(bad), size=1 + trial % 5):
                bad[at] = int(rng.integers(256))
        try:
            out = codec.decode_body(bytes(bad), 20, CLASSES)
        except DamagedObjectError:
            outcomes.add("raises")
        else:
            assert out.shape == (20, CLASSES)
            outcomes.add("gives rows")
    assert outcomes == {"raises", "gives rows"}


@pytest.mark.parametrize("which", range(4))
def test_infinite_or_half_missing_rows_are_refused_by_slot(which, transform_model):
    rows = teacher_logits(5)
    for bad in (np.inf, -np.inf, np.nan):
        rows[3, 2] = bad
        with pytest.raises(ModelError, match="slot 3"):
            all_codecs(transform_model)[which].encode_rows(rows)


@pytest.mark.parametrize("which", range(4))
def test_a_chunk_without_samples_is_all_nan(which, transform_model):
    codec = all_codecs(transform_model)[which]
    empty = np.full((9, CLASSES), np.nan, np.float32)
    assert np.isnan(codec.decode_rows(codec.encode_rows(empty), 9, CLASSES)).all()
    assert codec.decode_rows(codec.encode_rows(empty[:0]), 0, CLASSES).shape == (0, CLASSES)


@pytest.mark.parametrize("which", range(4))
def test_unused_slots_may_stand_anywhere(which, transform_model):
    codec = all_codecs(transform_model)[which]
    rows = teacher_logits(40)
    rows[::3] = np.nan
    read = codec.decode_rows(codec.encode_rows(rows), 40, CLASSES)
    assert np.array_equal(np.isnan(read), np.isnan(rows))


def test_int8_is_within_half_a_step_of_each_row_range():
    rows = teacher_logits(50)
    read = Int8Codec().decode_rows(Int8Codec().encode_rows(rows), 50, CLASSES)
    step = (rows.max(axis=1) - rows.min(axis=1)) / 255
    assert (np.abs(read - rows) <= 0.501 * step[:, None]).all()


def test_topk_keeps_the_k_largest_in_their_places():
    rows = teacher_logits(50)
    read = TopKCodec(5).decode_rows(TopKCodec(5).encode_rows(rows), 50, CLASSES)
    p = np.exp(rows) / np.exp(rows).sum(axis=1, keepdims=True)
    best = np.argsort(-rows, axis=1)[:, :5]
    kept = np.take_along_axis(np.exp(read), best, 1)
    assert np.allclose(kept, np.take_along_axis(p, best, 1), rtol=1e-3, atol=1e-6)
    assert np.allclose(np.exp(read).sum(axis=1), 1, atol=3e-3)


def test_topk_with_more_than_65536_classes_keeps_its_indices():
    rows = np.zeros((2, 70_000), np.float32)
    rows[0, 69_999] = 30
    rows[1, 3] = 30
    codec = TopKCodec(2)
    assert codec.decode_rows(codec.encode_rows(rows), 2, 70_000).argmax(axis=1).tolist() == [69_999, 3]


def test_a_finer_step_of_sqrt_p_loses_less():
    rows = teacher_logits(80)
    losses = []
    for step in (0.2, 0.1, 0.05, 0.02):
        codec = SqrtPCodec(step)
        losses.append(fidelity(rows, codec.decode_rows(codec.encode_rows(rows), 80, CLASSES))[0].mean)
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.01
