"""torchvision's data sets: laid out here as its classes expect them, and taken as files. Nothing is downloaded."""

import hashlib
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
import torchvision.datasets as theirs
from conftest import encoded_photo

from stillroom.pipeline.config.config import parse_config
from stillroom.pipeline.config.torchvision_names import SPLITS, parse_torchvision
from stillroom.stages.ingest.sources import torchvision
from stillroom.stages.ingest.sources.torchvision import fetch, find
from stillroom.stages.maintenance.status import status_of
from stillroom.stages.run.executor import InProcess, execute
from stillroom.stages.run.progress import NoProgress
from stillroom.stages.run.registry import stage_named
from stillroom.storage.dataset.dataset import Dataset
from stillroom.storage.errors import ConfigError, DataError, MissingObjectError


def photo(path, number=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded_photo(number))


def pets(root):
    """Two classes of four cats and dogs for training and two for testing."""
    lines = {"trainval": [], "test": []}
    for label, name in enumerate(("Abyssinian", "great_pyrenees"), 1):
        for number in range(6):
            lines["trainval" if number < 4 else "test"].append(f"{name}_{number} {label} {label} 1")
            photo(root / "oxford-iiit-pet" / "images" / f"{name}_{number}.jpg", 6 * label + number)
    for split, found in lines.items():
        path = root / "oxford-iiit-pet" / "annotations" / f"{split}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(found) + "\n")


def food(root):
    for split, numbers in (("train", range(3)), ("test", range(3, 5))):
        listed = {name: [f"{name}/{number}" for number in numbers] for name in ("waffles", "apple_pie")}
        for number, item in enumerate(listed["waffles"] + listed["apple_pie"]):
            photo(root / "food-101" / "images" / f"{item}.jpg", number)
        (root / "food-101" / "meta").mkdir(exist_ok=True)
        (root / "food-101" / "meta" / f"{split}.json").write_text(json.dumps(listed))


def flowers(root, monkeypatch):
    """Eight flowers of two kinds. torchvision checks its lists' digests, which are those of its own 8,189 flowers."""
    base = root / "flowers-102"
    for number in range(1, 9):
        photo(base / "jpg" / f"image_{number:05d}.jpg", number)
    scipy.io.savemat(base / "imagelabels.mat", {"labels": np.arange(8) % 2 + 1})
    scipy.io.savemat(base / "setid.mat", {"trnid": [1, 2, 3], "valid": [4, 5], "tstid": [6, 7, 8]})
    digests = {
        part: (name, hashlib.md5((base / name).read_bytes()).hexdigest())
        for part, name in (("label", "imagelabels.mat"), ("setid", "setid.mat"))
    }
    monkeypatch.setattr(theirs.Flowers102, "_file_dict", theirs.Flowers102._file_dict | digests)


def sun(root):
    for number, name in enumerate(("a/abbey", "a/apse/indoor")):
        for place in range(10):
            photo(root / "SUN397" / name / f"sun_{number}{place}.jpg", place)
    (root / "SUN397" / "ClassName.txt").write_text("/a/abbey\n/a/apse/indoor\n")


def imagenet(root):
    base = root / "imagenet"
    for split in ("train", "val"):
        for number, name in enumerate(("n02012849", "n03126707")):
            photo(base / split / name / f"{split}_{number}.JPEG", number)
    # Both are called "crane".
    torch.save(({"n02012849": ("crane",), "n03126707": ("crane",)}, ["n02012849", "n03126707"]), base / "meta.bin")


def caltech101(root):
    for name in ("BACKGROUND_Google", "ant", "yin_yang"):
        for number in range(1, 3):
            photo(root / "caltech101" / "101_ObjectCategories" / name / f"image_{number:04d}.jpg", number)


def caltech256(root):
    for place, name in enumerate(("001.ak47", "002.american-flag"), 1):
        for number in range(1, 3):
            photo(root / "caltech256" / "256_ObjectCategories" / name / f"{place:03d}_{number:04d}.jpg", number)


def country(root):
    for split in ("train", "valid", "test"):
        for name in ("AD", "ZW"):
            photo(root / "country211" / split / name / f"{split}-{name}.jpg")


def textures(root):
    base = root / "dtd" / "dtd"
    for split in ("train", "val", "test"):
        lines = [f"{name}/{name}_{split}.jpg" for name in ("banded", "zigzagged")]
        for line in lines:
            photo(base / "images" / line)
        (base / "labels").mkdir(exist_ok=True)
        (base / "labels" / f"{split}1.txt").write_text("\n".join(lines) + "\n")


def eurosat(root):
    for name in ("Forest", "River"):
        photo(root / "eurosat" / "2750" / name / f"{name}_1.jpg")


def aircraft(root):
    base = root / "fgvc-aircraft-2013b" / "data"
    (base / "images").mkdir(parents=True)
    (base / "variants.txt").write_text("707-320\nYak-42\n")
    for place, split in enumerate(("train", "val", "trainval", "test")):
        lines = [f"{place}{number} {name}" for number, name in enumerate(("707-320", "Yak-42"))]
        for line in lines:
            photo(base / "images" / f"{line.split()[0]}.jpg")
        (base / f"images_variant_{split}.txt").write_text("\n".join(lines) + "\n")


def imagenette(root):
    for split in ("train", "val"):
        for name in ("n01440764", "n02102040"):
            photo(root / "imagenette2" / split / name / f"{split}_{name}.JPEG")


def cars(root):
    base = root / "stanford_cars"
    kinds = np.array([("1.jpg", 2), ("2.jpg", 1)], dtype=[("fname", object), ("class", "O")])
    (base / "devkit").mkdir(parents=True)
    scipy.io.savemat(base / "devkit" / "cars_train_annos.mat", {"annotations": kinds})
    scipy.io.savemat(base / "cars_test_annos_withlabels.mat", {"annotations": kinds})
    names = np.array(["AM General Hummer", "Acura RL"], dtype=object)
    scipy.io.savemat(base / "devkit" / "cars_meta.mat", {"class_names": names})
    for split in ("train", "test"):
        for number in (1, 2):
            photo(base / f"cars_{split}" / f"{number}.jpg")


LAYOUTS = {
    "Caltech101": (caltech101, ("ant", "yin_yang"), "101_ObjectCategories/ant/image_0001", 4),
    "Caltech256": (caltech256, ("001.ak47", "002.american-flag"), "256_ObjectCategories/001.ak47/001_0001", 4),
    "Country211": (country, ("AD", "ZW"), "valid/AD/valid-AD", 6),
    "DTD": (textures, ("banded", "zigzagged"), "dtd/images/banded/banded_val", 6),
    "EuroSAT": (eurosat, ("Forest", "River"), "2750/Forest/Forest_1", 2),
    "FGVCAircraft": (aircraft, ("707-320", "Yak-42"), "data/images/30", 8),
    "Food101": (food, ("apple_pie", "waffles"), "images/apple_pie/4", 10),
    "ImageNet": (imagenet, ("n02012849", "n03126707"), "val/n02012849/val_0", 4),
    "Imagenette": (imagenette, ("n01440764", "n02102040"), "val/n01440764/val_n01440764", 4),
    "OxfordIIITPet": (pets, ("Abyssinian", "Great Pyrenees"), "images/Abyssinian_5", 12),
    "SUN397": (sun, ("abbey", "apse/indoor"), "a/abbey/sun_05", 20),
    "StanfordCars": (cars, ("AM General Hummer", "Acura RL"), "cars_test/2", 4),
}


def url_of(name):
    return f"torchvision:{name}" + (f"?split={'+'.join(SPLITS[name])}" if SPLITS[name] else "")


@pytest.mark.parametrize("name", LAYOUTS)
def test_files_are_found_with_their_labels_names_and_keys(name, tmp_path, monkeypatch):
    """Each image of all splits, where torchvision looks for it."""
    write, classes, key, count = LAYOUTS[name]
    write(tmp_path)
    found = find(parse_torchvision(url_of(name)), str(tmp_path))
    assert found.classes == classes
    by_key = {sample.key: sample for sample in found.samples}
    assert len(by_key) == len(found.samples) == count
    assert by_key[key].label == 0
    assert {sample.label for sample in found.samples} == {0, 1}
    for sample in found.samples:
        assert sample.path.stat().st_size == sample.size > 0


def test_every_known_name_is_laid_out_here():
    assert LAYOUTS.keys() | {"Flowers102"} == SPLITS.keys() == torchvision._KINDS.keys()


def test_every_known_split_is_torchvisions(tmp_path):
    """Where a split is unknown to torchvision, it says so before it looks for files."""
    for name, splits in SPLITS.items():
        for split in splits:
            with pytest.raises((RuntimeError, OSError), match=r"not found|not present|No such file"):
                torchvision._built(name, split, tmp_path, download=False)


@pytest.fixture
def make(tmp_path):
    def config(train, evaluation=None, **data):
        return parse_config(
            {
                "run": {"dir": str(tmp_path / "run")},
                "data": {"train": train, "eval": evaluation, "download": str(tmp_path / "there"), **data},
            }
        )

    return config


def ingest(config):
    execute(stage_named("ingest"), config, InProcess(), NoProgress())


def samples(place):
    data = Dataset(place)
    found = {}
    for shard in range(len(data.sizes)):
        index = data.index(shard)
        for key, label, image in zip(index.key, index.label, data.images(shard, index), strict=True):
            found[key] = data.classes[label], image.tobytes()
    return found


def test_splits_are_joined_and_the_files_bytes_ingested(make, tmp_path, monkeypatch):
    flowers(tmp_path / "there", monkeypatch)
    config = make("torchvision:Flowers102?split=train+val", "torchvision:Flowers102?split=test")
    ingest(config)
    train, evaluation = samples(config.data_place), samples(config.eval_place)
    assert sorted(train) == [f"jpg/image_{number:05d}" for number in range(1, 6)]
    assert sorted(evaluation) == [f"jpg/image_{number:05d}" for number in range(6, 9)]
    for key, (name, image) in (train | evaluation).items():
        number = int(key[-5:])
        assert image == encoded_photo(number)
        assert name == ("pink primrose", "hard-leaved pocket orchid")[(number - 1) % 2]


def test_pets_are_ingested_with_their_own_evaluation_split(make, tmp_path):
    pets(tmp_path / "there")
    config = make("torchvision:OxfordIIITPet?split=trainval", "torchvision:OxfordIIITPet?split=test")
    ingest(config)
    assert len(samples(config.data_place)) == 8
    assert samples(config.eval_place)["images/great_pyrenees_4"][0] == "Great Pyrenees"


def test_a_share_of_what_has_no_splits_is_held_out(make, tmp_path):
    sun(tmp_path / "there")
    config = make("torchvision:SUN397", holdout=0.3)
    ingest(config)
    parts = samples(config.data_place).keys(), samples(config.eval_place).keys()
    assert not parts[0] & parts[1]
    assert len(parts[0] | parts[1]) == 20


def test_their_labels_may_be_left_aside(make, tmp_path, photos):
    pets(tmp_path / "there")
    config = make("torchvision:OxfordIIITPet?split=trainval", str(photos), labels=False)
    ingest(config)
    data = Dataset(config.data_place)
    assert (data.classes, set(data.index(0).label)) == ((), {-1})


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("torchvision:FakeData", "data set 'FakeData' is not among those known: Caltech101, "),
        ("torchvision:os.system?split=train", "not among those known"),
        ("torchvision:Food101?split=val", "split 'val' is not known; splits of Food101: train, test"),
        ("torchvision:Food101", "say which splits, each once; splits of Food101: train, test, joined by +"),
        ("torchvision:Food101?split=train+train", "say which splits, each once"),
        ("torchvision:Food101?root=/", "say which splits"),
        ("torchvision:SUN397?split=train", "SUN397 has no splits; write torchvision:SUN397"),
    ],
)
def test_unknown_names_and_splits_are_refused_with_those_that_are_known(make, url, words):
    for place in ({"train": url}, {"train": "x", "evaluation": url}):
        with pytest.raises(ConfigError) as caught:
            make(**place)
        assert words in str(caught.value)


def test_overlapping_splits_are_refused(tmp_path):
    aircraft(tmp_path)
    lists = tmp_path / "fgvc-aircraft-2013b" / "data"
    (lists / "images_variant_trainval.txt").write_text((lists / "images_variant_train.txt").read_text())
    with pytest.raises(DataError, match="splits train, trainval of FGVCAircraft share images"):
        find(parse_torchvision("torchvision:FGVCAircraft?split=train+trainval"), str(tmp_path))


def no_network(*_, **__):
    raise OSError("no route to host")


def test_a_failed_download_says_where_to_put_the_files_and_leaves_nothing(make, tmp_path, monkeypatch):
    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", no_network)
    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", lambda url, **_: url)
    config = make("torchvision:Food101?split=train")
    with pytest.raises(DataError, match=r"Food101 is not in .*/there/food-101.*no route to host.*put its files"):
        ingest(config)
    assert [path.name for path in (tmp_path / "there").iterdir()] == [".lock"]


def test_only_ingest_downloads(make, tmp_path, monkeypatch):
    monkeypatch.setattr(torchvision, "_built", no_network)
    config = make("torchvision:Food101?split=train")
    assert status_of(config)["stages"][0]["tasks"] is None
    with pytest.raises(MissingObjectError, match="`stillroom ingest` gets it there"):
        stage_named("ingest").tasks(config)
    assert not (tmp_path / "there").exists()


def test_what_is_downloaded_comes_to_its_place_whole(make, tmp_path, monkeypatch):
    """torchvision's own unpacking of an archive, which is fetched from beside instead of from its makers."""
    food(tmp_path / "made")
    archive = tmp_path / "food-101.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "made" / "food-101", "food-101")
    monkeypatch.setattr(theirs.Food101, "_MD5", hashlib.md5(archive.read_bytes()).hexdigest())
    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", lambda url, **_: url)
    there = tmp_path / "there"
    seen = []

    def retrieve(url, path, **_):
        seen.append(url)
        assert not (there / "food-101").exists()
        Path(path).write_bytes(archive.read_bytes())

    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", retrieve)
    (there / ".incomplete-Food101" / "food-101" / "images").mkdir(parents=True)  # killed while it was unpacked
    (there / ".incomplete-Food101" / "food-101" / "meta").mkdir()
    config = make("torchvision:Food101?split=train", "torchvision:Food101?split=test")
    ingest(config)
    ingest(config)
    assert len(seen) == 1
    assert sorted(path.name for path in there.iterdir()) == [".lock", "food-101"]
    assert len(samples(config.data_place)) == 6


def test_a_folder_that_is_not_what_torchvision_expects_is_named_and_left_alone(make, tmp_path):
    (tmp_path / "there" / "food-101").mkdir(parents=True)
    with pytest.raises(DataError, match=r"there/food-101 is not what torchvision.datasets.Food101 expects"):
        ingest(make("torchvision:Food101?split=train"))
    assert (tmp_path / "there" / "food-101").exists()


def test_scipy_is_asked_for_before_anything_is_downloaded(make, tmp_path, monkeypatch):
    monkeypatch.setattr(torchvision, "find_spec", lambda _: None)
    with pytest.raises(DataError, match="reads the lists of Flowers102 with scipy, which is not installed"):
        ingest(make("torchvision:Flowers102?split=train"))
    assert not (tmp_path / "there").exists()


def test_imagenets_archives_are_asked_for_by_name(make, tmp_path):
    with pytest.raises(DataError, match=r"get ILSVRC2012_devkit_t12.tar.gz and ILSVRC2012_img_val.tar from its makers"):
        ingest(make("torchvision:ImageNet?split=val"))


def test_imagenets_archives_are_unpacked_beside_them(tmp_path, monkeypatch):
    """Of two images; torchvision's digests are of its own 150 GB, so the check of archives is left out."""
    base = tmp_path / "imagenet"
    imagenet(tmp_path / "made")
    with tarfile.open(tmp_path / "val.tar", "w") as tar:
        for number, path in enumerate(sorted((tmp_path / "made" / "imagenet" / "val").rglob("*.JPEG"))):
            tar.add(path, f"ILSVRC2012_val_{number:08d}.JPEG")
    base.mkdir()
    (tmp_path / "val.tar").rename(base / "ILSVRC2012_img_val.tar")
    (tmp_path / "made" / "imagenet" / "meta.bin").rename(base / "meta.bin")
    monkeypatch.setattr("torchvision.datasets.imagenet._verify_archive", lambda *_: None)
    what = parse_torchvision("torchvision:ImageNet?split=val")
    fetch(what, str(tmp_path))
    found = find(what, str(tmp_path))
    assert [sample.key for sample in found.samples] == [
        "val/n02012849/ILSVRC2012_val_00000000",
        "val/n03126707/ILSVRC2012_val_00000001",
    ]
    assert sorted(path.name for path in base.iterdir()) == ["ILSVRC2012_img_val.tar", "meta.bin", "val"]
