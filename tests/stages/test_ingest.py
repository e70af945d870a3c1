"""Ingest: any JPEG, PNG or WebP comes out as upright RGB; what cannot be used is rejected with its reason."""

import io
import json
import shutil
import weakref

import numpy as np
import pytest
import webdataset
from PIL import Image, ImageOps
from trials.mutations import mutation

from stillroom.pipeline.augment.recipe import centre_views
from stillroom.pipeline.render.renderer import Renderer
from stillroom.pipeline.render.request import Request
from stillroom.stages.ingest.sources.samples import Sample
from stillroom.storage.dataset.dataset import Dataset
from stillroom.storage.errors import DataError


def gradient(width=60, height=40):
    y, x = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([x * 4, y * 6, (x + y) * 2], axis=2).astype(np.uint8))


def encoded(image, kind, **options):
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def oriented(orientation):
    image = gradient()
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(image, "JPEG", quality=95, exif=exif.tobytes())


KINDS = {
    "jpeg": encoded(gradient(), "JPEG", quality=95),
    "progressive": encoded(gradient(), "JPEG", quality=95, progressive=True),
    "grey jpeg": encoded(gradient().convert("L"), "JPEG", quality=95),
    "cmyk jpeg": encoded(gradient().convert("CMYK"), "JPEG", quality=95),
    "png": encoded(gradient(), "PNG"),
    "grey png": encoded(gradient().convert("L"), "PNG"),
    "palette png": encoded(gradient().convert("P"), "PNG"),
    "transparent png": encoded(gradient().convert("RGBA"), "PNG"),
    "webp": encoded(gradient(), "WEBP", quality=95),
    "lossless webp": encoded(gradient(), "WEBP", lossless=True),
    **{f"exif {number}": oriented(number) for number in range(1, 9)},
}
BAD = {
    "empty": (b"", "empty"),
    "text": (b"this is no image at all", "not an image"),
    "cut": (KINDS["jpeg"][: len(KINDS["jpeg"]) * 9 // 10], "does not decode"),
    "gif": (encoded(gradient().convert("P"), "GIF"), "not an image"),
    "bmp": (encoded(gradient(), "BMP"), "format bmp"),
    "bomb": (encoded(Image.new("L", (4000, 3000)), "PNG"), "claims 4000 × 3000 pixels"),
}


@pytest.fixture
def folder(tmp_path):
    """Class folders of every kind of image, and of none."""
    for number, (name, data) in enumerate([*KINDS.items(), *((name, data) for name, (data, _) in BAD.items())]):
        path = tmp_path / "images" / f"class{number % 2}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "images"


@pytest.fixture
def ingested(folder, make_config, run_stages, tmp_path):
    settings = {"train": str(folder), "holdout": 0.0, "max_rejected": 1.0, "max_pixels": 1_000_000}
    config = make_config({"data": settings}, folder=tmp_path / "run")
    run_stages(config, "ingest")
    return config


def rejected(config):
    lines = config.data_place.read("rejected.jsonl").decode().splitlines()
    return {json.loads(line)["key"].partition("/")[2]: json.loads(line)["reason"] for line in lines}


def test_bad_images_are_rejected_with_their_reasons_and_the_run_goes_on(ingested):
    reasons = rejected(ingested)
    assert reasons.keys() == BAD.keys()
    for name, (_, reason) in BAD.items():
        assert reason in reasons[name]
    assert Dataset(ingested.data_place).samples == len(KINDS)


def test_too_many_rejected_images_stop_it(folder, make_config, run_stages, tmp_path):
    settings = {"train": str(folder), "holdout": 0.0, "max_rejected": 0.1}
    config = make_config({"data": settings}, folder=tmp_path / "run")
    with pytest.raises(DataError, match=r"of 24 images of data.train were rejected, more than .* \(10.00%\)"):
        run_stages(config, "ingest")
    assert config.data_place.size("dataset.json") is None


def test_every_kind_comes_out_as_upright_rgb(ingested):
    data = Dataset(ingested.data_place)
    for shard in range(len(data.sizes)):
        index = data.index(shard)
        views = centre_views(index.height, index.width, 1.0)
        views.window[:] = np.stack([0 * index.height, 0 * index.width, index.height, index.width], axis=1)
        images = data.images(shard, index)
        (pixels,) = Renderer((40,), 64).render(Request(images, [views]))
        for slot, key in enumerate(index.key):
            name = key.partition("/")[2]
            with Image.open(io.BytesIO(KINDS[name])) as opened:
                upright = ImageOps.exif_transpose(opened).convert("RGB")
            assert (index.width[slot], index.height[slot]) == upright.size
            expected = np.asarray(upright.resize((40, 40), Image.Resampling.BILINEAR), np.float64)
            assert np.abs(pixels[0, slot].numpy() - expected).mean() < 6.0, name


def test_shards_are_balanced_and_hold_each_sample_once(digits, make_config, run_stages, tmp_path):
    config = make_config(folder=tmp_path / "run")
    run_stages(config, "ingest")
    data, held_out = Dataset(config.data_place), Dataset(config.eval_place)
    keys = [key for part in (data, held_out) for shard in range(len(part.sizes)) for key in part.index(shard).key]
    assert sorted(keys) == sorted(p.relative_to(digits).with_suffix("").as_posix() for p in digits.glob("*/*.jpg"))
    assert max(data.sizes) - min(data.sizes) <= 1
    assert 0.1 < held_out.samples / len(keys) < 0.3


def test_existing_tars_are_indexed_and_not_copied(digits, make_config, run_stages, tmp_path):
    config = make_config(folder=tmp_path / "run")
    run_stages(config, "ingest")
    shutil.copytree(f"{config.run.dir}/data/shards", tmp_path / "tars")
    shards = len(Dataset(config.data_place).sizes)
    settings = {"train": f"{tmp_path}/tars/{{000000..{shards - 1:06d}}}.tar", "holdout": 0.0}
    other = make_config({"data": settings}, folder=tmp_path / "other")
    run_stages(other, "ingest")
    mine, theirs = Dataset(other.data_place), Dataset(config.data_place)
    assert not list(other.data_place.list("shards"))
    assert mine.sizes == theirs.sizes
    assert mine.classes == tuple(str(number) for number in range(10))
    for shard in range(shards):
        assert mine.index(shard).key == theirs.index(shard).key
        pairs = zip(mine.images(shard, mine.index(shard)), theirs.images(shard, theirs.index(shard)), strict=True)
        assert all(np.array_equal(one, other) for one, other in pairs)


def test_tars_of_other_tools_are_taken_and_unlabelled_samples_rejected(make_config, run_stages, tmp_path):
    path = tmp_path / "theirs.tar"
    with webdataset.TarWriter(str(path)) as writer:
        for number in range(12):
            writer.write({"__key__": f"s{number:03d}", "jpg": KINDS["jpeg"], "cls": number % 3})
        writer.write({"__key__": "from-json", "png": KINDS["png"], "json": {"label": 2}})
        writer.write({"__key__": "no-label", "jpg": KINDS["jpeg"]})
        writer.write({"__key__": "no-image", "cls": 1})
    settings = {"train": str(path), "holdout": 0.0, "max_rejected": 1.0}
    config = make_config({"data": settings}, folder=tmp_path / "run")
    run_stages(config, "ingest")
    index = Dataset(config.data_place).index(0)
    assert index.key == (*(f"s{number:03d}" for number in range(12)), "from-json")
    assert index.label.tolist() == [*(number % 3 for number in range(12)), 2]
    lines = config.data_place.read("rejected.jsonl").decode().splitlines()
    assert {json.loads(line)["key"] for line in lines} == {"no-label", "no-image"}


@pytest.mark.parametrize("keep", [100, 600, 1024, 2 * 1024 + 3, 5 * 512])
def test_a_cut_tar_is_refused_by_name(make_config, run_stages, tmp_path, keep):
    path = tmp_path / "cut.tar"
    with webdataset.TarWriter(str(path)) as writer:
        for number in range(4):
            writer.write({"__key__": f"s{number}", "jpg": KINDS["png"], "cls": number % 2})
    path.write_bytes(path.read_bytes()[:keep])
    config = make_config({"data": {"train": str(path), "holdout": 0.0}}, folder=tmp_path / "run")
    with pytest.raises(DataError, match=r"cut\.tar is"):
        run_stages(config, "ingest")


@pytest.fixture(params=["made", pytest.param("real", marks=pytest.mark.real_data)])
def hostile(request, tmp_path):
    """Folders of damaged files and of whole ones, and how many are whole."""
    if request.param == "real":
        folder = request.getfixturevalue("real_data") / "hostile"
        return folder, sum(path.is_file() for path in (folder / "exif").iterdir())
    folder = tmp_path / "hostile"
    files = {f"whole/{name}": data for name, data in KINDS.items()}
    files |= {f"mutated/{number}": mutation(3, number)[1] for number in range(100)}
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder, len(KINDS)


def test_hostile_images_crash_nothing(hostile, make_config, run_stages, tmp_path):
    folder, whole = hostile
    settings = {"train": str(folder), "holdout": 0.0, "max_rejected": 1.0, "samples_per_shard": 100}
    config = make_config({"data": settings}, folder=tmp_path / "run")
    run_stages(config, "ingest")
    files = sum(path.is_file() for path in folder.glob("*/*"))
    accepted = Dataset(config.data_place).samples
    reasons = config.data_place.read("rejected.jsonl").decode().splitlines()
    assert accepted + len(reasons) == files
    assert whole <= accepted < files
    assert all(json.loads(line)["reason"] for line in reasons)


def test_a_sample_that_is_kept_without_its_image_does_not_hold_it():
    image = np.frombuffer(bytearray(KINDS["png"]), np.uint8)
    held = weakref.ref(image)
    kept = Sample("key", 0, image, 0).without_image()
    del image
    assert held() is None
    assert not len(kept.image)
