"""Large photos are made smaller once, at ingest: for folders and tars alike, and nothing else is touched."""

import io
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from stillroom.storage.dataset.dataset import Dataset
from stillroom.storage.errors import FingerprintError
from stillroom.storage.ledger.ledger import Ledger

SIDE = 64


def photo(number, width, height, **options):
    coarse = np.random.default_rng(number).integers(0, 256, (6, 6, 3), np.uint8)
    sink = io.BytesIO()
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(sink, "JPEG", quality=95, **options)
    return sink.getvalue()


@pytest.fixture
def folder(tmp_path):
    """Twelve photos: small, wide, tall, and one that lies on its side."""
    exif = Image.Exif()
    exif[0x0112] = 6
    files = {f"small{n}": photo(n, 60, 40) for n in range(4)}
    files |= {f"wide{n}": photo(n, 200, 100) for n in range(4)}
    files |= {f"tall{n}": photo(n, 90, 300) for n in range(3)}
    files["turned"] = photo(9, 200, 100, exif=exif.tobytes())
    for number, (name, data) in enumerate(files.items()):
        path = tmp_path / "images" / f"class{number % 2}" / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "images"


@pytest.fixture
def ingest(make_config, run_stages, tmp_path):
    def call(name, train, render=None, **settings):
        tables = {"data": {"train": str(train), "holdout": 0.0, **settings}, "render": render or {}}
        config = make_config(tables, folder=tmp_path / name)
        run_stages(config, "ingest")
        return config

    return call


def contents(config):
    """(label, height, width, bytes) by key."""
    data = Dataset(config.data_place)
    found = {}
    for shard in range(len(data.sizes)):
        index = data.index(shard)
        images = data.images(shard, index)
        for slot, key in enumerate(index.key):
            size = int(index.height[slot]), int(index.width[slot])
            found[key] = (int(index.label[slot]), *size, bytes(images[slot]))
    return found


def test_large_photos_are_made_smaller_and_others_keep_their_bytes(folder, ingest):
    small = contents(ingest("small", folder, max_side=SIDE))
    assert len(small) == 12
    for key, (_, height, width, data) in small.items():
        original = (folder / f"{key}.jpg").read_bytes()
        with Image.open(io.BytesIO(data)) as opened:
            assert opened.size == (width, height)
        name = key.partition("/")[2]
        if name.startswith("small"):
            assert data == original
        else:
            sizes = {"wide": (32, 64), "tall": (64, 19), "turned": (64, 32)}
            assert (height, width) == sizes[name.rstrip("0123456789")]
            assert len(data) < len(original)


def test_the_small_photo_shows_what_the_large_one_did(folder, ingest):
    small = contents(ingest("small", folder, max_side=SIDE))
    (key,) = (key for key in small if key.endswith("wide1"))
    with Image.open(folder / f"{key}.jpg") as opened:
        expected = np.asarray(opened.resize((64, 32), Image.Resampling.LANCZOS).convert("L"), np.float64)
    # Brightness: the colours of these photos change within a few pixels, and a JPEG keeps half of them.
    found = np.asarray(Image.open(io.BytesIO(small[key][3])).convert("L"), np.float64)
    assert np.abs(found - expected).mean() < 3.0


_MANY = """
import sys
from pathlib import Path
import numpy as np
from stillroom.pipeline.device.malloc import keep_freed_memory
from stillroom.pipeline.images.downscale import shrunk
from stillroom.pipeline.images.verdict import Accepted
def held():
    return next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
keep_freed_memory()
image = np.frombuffer(Path(sys.argv[1]).read_bytes(), np.uint8)
shrunk(image, Accepted(2000, 3000), 64)
one = held()
for _ in range(40):
    shrunk(image, Accepted(2000, 3000), 64)
print(held() - one)
"""


@pytest.mark.slow
def test_many_photos_take_no_more_memory_than_one(tmp_path):
    """18 MB of pixels each."""
    (tmp_path / "photo.jpg").write_bytes(photo(0, 3000, 2000))
    command = [sys.executable, "-c", _MANY, str(tmp_path / "photo.jpg")]
    grown = float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    assert grown < 120


def test_tars_are_written_anew_with_the_same_images(folder, ingest, tmp_path):
    whole = ingest("whole", folder)
    shutil.copytree(f"{whole.run.dir}/data/shards", tmp_path / "tars")
    shards = len(Dataset(whole.data_place).sizes)
    source = f"{tmp_path}/tars/{{000000..{shards - 1:06d}}}.tar"
    of_tars = ingest("of-tars", source, max_side=SIDE, classes=["class0", "class1"])
    shutil.rmtree(tmp_path / "tars")  # it needs them no more
    assert contents(of_tars) == contents(ingest("of-folder", folder, max_side=SIDE))
    assert len(list(of_tars.data_place.list("shards"))) == shards


def test_evaluation_images_stay_as_they_are(folder, ingest, tmp_path):
    config = ingest("both", folder, max_side=SIDE, eval=str(folder))
    data = Dataset(config.eval_place)
    sizes = {int(side) for shard in range(len(data.sizes)) for side in data.index(shard).width}
    assert max(sizes) == 200


def test_another_size_is_refused_for_data_that_is_there(folder, ingest, make_config, run_stages, tmp_path):
    ingest("run", folder, max_side=SIDE)
    for changed in ({}, {"max_side": 2 * SIDE}):
        settings = {"data": {"train": str(folder), "holdout": 0.0, **changed}}
        with pytest.raises(FingerprintError, match=r"data\.max_side"):
            run_stages(make_config(settings, folder=tmp_path / "run"), "ingest")


@pytest.mark.slow
def test_a_run_over_smaller_photos_is_a_run(digits, make_config, run_stages, tmp_path):
    for path in digits.glob("*/*.jpg"):
        target = tmp_path / "large" / path.relative_to(digits)
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).resize((96, 96)).save(target)
    config = make_config({"data": {"train": str(tmp_path / "large"), "max_side": 48}}, folder=tmp_path / "run")
    run_stages(config, "ingest", "seeds", "teacher", "verify", "student")
    data = Dataset(config.data_place)
    assert {int(side) for shard in range(len(data.sizes)) for side in data.index(shard).width} == {48}
    assert (tmp_path / "run" / "students" / "student" / "weights.safetensors").exists()


@pytest.mark.parametrize("what", ["packed", "indexed", "packed anew"])
def test_memory_that_is_too_small_for_a_data_shard_changes_no_byte(folder, ingest, tmp_path, what):
    train, more = folder, {"samples_per_shard": 5}
    if what != "packed":
        tars = ingest("tars", folder, samples_per_shard=5).data_place.local("shards")
        train, more = f"{tars}/{{000000..000002}}.tar", {"max_side": SIDE} if what == "packed anew" else {}
    made = []
    for megabytes in (0, 4096):
        place = ingest(f"run{megabytes}", train, {"encoded_mb": megabytes}, **more).data_place
        objects = [name for name in place.list() if not name.startswith("ledger/")]
        made.append({name: place.read(name) for name in objects})
        vouched = [record.objects for record in Ledger(place).records("ingest")]
        assert len(vouched) == 3
        made[-1]["vouched for"] = vouched
    assert ("shards/000001.tar" in made[0]) == (what != "indexed")
    assert made[0] == made[1]
