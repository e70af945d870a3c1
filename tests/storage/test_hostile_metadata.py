"""A cache whose metadata lie, with a ledger that vouches for them: refused before anything is allocated."""

import json
import shutil
import tracemalloc
from contextlib import contextmanager

import numpy as np
import pytest

from stillroom.storage.cache.cache import Cache, CacheInfo, create_cache
from stillroom.storage.cache.teacher_logits import TeacherInfo
from stillroom.storage.errors import StoreError
from stillroom.storage.ledger.ledger import Ledger, ObjectDigest, Record
from stillroom.storage.objects.urls import open_place
from stillroom.storage.writers import block as blockwriter
from stillroom.storage.writers.plain_view import PlainWriter
from stillroom.storage.writers.teacher import TeacherWriter

SIZES, CLASSES, VIEWS = (3, 2), 5, 4
LOGITS, DIGESTS, SEEDS, PLAIN = "teachers/t/logits", "teachers/t/digests", "seeds", "teachers/t/plain"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A whole cache of one teacher."""
    root = tmp_path_factory.mktemp("whole") / "cache"
    place = open_place(str(root))
    create_cache(place, CacheInfo({}, 1, {"a": 1}, SIZES, 2), [np.arange(n, dtype=np.uint64) for n in SIZES])
    cache = Cache(place)
    info = TeacherInfo({}, CLASSES, 8, "float16", (0, 1))
    writer = TeacherWriter(cache.ledger, cache.layout, "t", info, cache.info.views, VIEWS)
    writer.lay_out()
    for shard, rows in enumerate(SIZES):
        for block in range(2):
            logits = np.zeros((2, rows, CLASSES), np.float32)
            kept = {number: np.zeros((8, 8, 3), np.uint8) for number, _, _ in writer.canaries_of(shard, block)}
            blockwriter.write_block(writer, shard, block, logits, np.zeros((2, rows), np.uint16), kept, {})
    writer.write_evaluation({}, np.zeros((7, CLASSES), np.float32), {})
    plain = PlainWriter(writer, 0.5)
    plain.lay_out()
    for shard, rows in enumerate(SIZES):
        plain.write(shard, np.zeros((rows, CLASSES), np.float32), {})
    return root


@pytest.fixture
def place(whole, tmp_path):
    """A copy of it."""
    shutil.copytree(whole, tmp_path / "cache")
    return open_place(str(tmp_path / "cache"))


def forge(place, node, change):
    """Change metadata, and the records that vouch for them."""
    name = f"{node}/zarr.json" if node else "zarr.json"
    stored = json.loads(place.read(name))
    changed = change(stored)
    data = json.dumps(stored if changed is None else changed).encode() if not isinstance(changed, bytes) else changed
    place.write(name, data)
    ledger = Ledger(place)
    for record in list(ledger.records()):
        if name in record.objects:
            objects = {**record.objects, name: ObjectDigest.of(data)}
            ledger.put(Record(record.task, record.fingerprint, objects, record.facts))


def read_all(place):
    teacher = Cache(place).teacher("t")
    Cache(place).seeds(0)
    for view in range(VIEWS):
        teacher.logits(0, view)
        teacher.digests(1, view)
    teacher.finished_views()
    teacher.canaries()
    teacher.plain(0)
    return teacher.evaluation()


@contextmanager
def little_memory():
    """What is allocated in here, at its highest, is what a cache of a few kilobytes needs.

    All that is asked for is counted, though its pages may never be touched; and nothing of what came before.
    """
    tracemalloc.start()
    try:
        yield
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 4_000_000, "bytes"


def put(*path):
    """Sets what is at a path of keys to the last argument."""
    *keys, value = path

    def change(stored):
        for key in keys[:-1]:
            stored = stored[key]
        stored[keys[-1]] = value

    return change


def attribute(field, value):
    return put("attributes", "stillroom", field, value)


def test_the_cache_itself_is_read(place):
    with little_memory():
        assert read_all(place).shape == (7, CLASSES)


GIANT = 2**50
GRID = ("chunk_grid", "configuration", "chunk_shape")
INSIDE = ("codecs", 0, "configuration")
EVIL = [{"name": "numcodecs.evil", "configuration": {"id": "pickle"}}]


@pytest.mark.parametrize(
    ("node", "change", "said"),
    [
        ("", attribute("sizes", [GIANT, 2]), "sizes is"),
        ("", attribute("sizes", [2**24, 2]), "shape is [2, 3], should be [2, 16777216]"),
        ("", attribute("sizes", []), "no data shards"),
        ("", attribute("sizes", "3"), "sizes is 3"),
        ("", attribute("sizes", [True, 2]), "sizes is True"),
        ("", attribute("sizes", [3, -2]), "sizes is -2"),
        ("", attribute("sizes", [3.5, 2]), "sizes is 3.5"),
        ("", attribute("views_per_block", GIANT), "views_per_block is"),
        ("", attribute("views_per_block", 0), "views_per_block is 0"),
        ("", attribute("root_seed", 12), "root_seed is 12"),
        ("", attribute("recipe", None), "recipe"),
        ("", put("attributes", {}), "attributes.stillroom is None"),
        ("", put("node_type", "array"), "node_type is array"),
        ("", put("zarr_format", 2), "Zarr 3"),
        ("", put("consolidated_metadata", {"kind": "inline", "metadata": {}}), "consolidated_metadata"),
        ("", lambda _: b"\x80\x04pickle", "no JSON"),
        ("", lambda _: b"[" * 100_000, "no JSON"),
        ("", lambda _: b"[]", "should be a table"),
        ("teachers", put("consolidated_metadata", {"kind": "inline", "metadata": {}}), "consolidated_metadata"),
        ("teachers/t", attribute("classes", GIANT), "classes is"),
        ("teachers/t", attribute("size", GIANT), "size is"),
        ("teachers/t", attribute("canaries", [0, GIANT]), "canaries is"),
        ("teachers/t", attribute("canaries", [0] * 3), "shape is [2, 8, 8, 3], should be [3, 8, 8, 3]"),
        ("teachers/t", attribute("fingerprint", 3), "fingerprint"),
        ("teachers/t", put("consolidated_metadata", {"kind": "inline", "metadata": {}}), "consolidated_metadata"),
        (SEEDS, put("shape", [2, GIANT]), "shape is"),
        (SEEDS, put(*GRID, [GIANT, GIANT]), "chunk_grid is"),
        (SEEDS, put("data_type", "float64"), "data_type is float64"),
        (SEEDS, put("codecs", EVIL), "codecs is ['numcodecs.evil']"),
        (LOGITS, put("shape", [2, VIEWS, 3, GIANT]), "shape is"),
        (LOGITS, put("shape", [2, GIANT, 3, CLASSES]), "shape is"),
        (LOGITS, put("shape", [2, 5, 3, CLASSES]), "shape is"),
        (LOGITS, put("shape", [2, VIEWS, 3]), "shape is"),
        (LOGITS, put("shape", ["2", VIEWS, 3, CLASSES]), "shape is"),
        (LOGITS, put("data_type", "float64"), "data_type is float64"),
        (LOGITS, put("data_type", {"name": "numpy.object"}), "data_type is"),
        (LOGITS, put("dimension_names", ["shard", "slot", "view", "class"]), "dimension_names is"),
        (LOGITS, put("dimension_names", None), "dimension_names is None"),
        (LOGITS, put(*GRID, [1, 2, GIANT, CLASSES]), "chunk_grid is"),
        (LOGITS, put(*GRID, [1, 4, 3, CLASSES]), "chunk_grid is"),
        (LOGITS, put("chunk_grid", {"name": "rectangular"}), "chunk_grid is"),
        (LOGITS, put("chunk_grid", None), "chunk_grid is None"),
        (LOGITS, put("chunk_key_encoding", {"name": "v2"}), "chunk_key_encoding is"),
        (LOGITS, put("storage_transformers", [{"name": "evil"}]), "storage_transformers"),
        (LOGITS, put("evil", {"must_understand": False}), "evil is there"),
        (LOGITS, put("codecs", EVIL), "codecs is ['numcodecs.evil']"),
        (LOGITS, put("codecs", []), "codecs is []"),
        (LOGITS, put(*INSIDE, "codecs", [{"name": ""}]), "codecs is ['']"),
        (LOGITS, put(*INSIDE, "codecs", [{"name": "stillroom.unheard-of"}]), "codecs is ['stillroom.unheard-of']"),
        (LOGITS, put(*INSIDE, "codecs", EVIL), "codecs is ['numcodecs.evil']"),
        (LOGITS, put(*INSIDE, "codecs", [{"name": "sharding_indexed"}]), "codecs is ['sharding_indexed']"),
        (LOGITS, put(*INSIDE, "index_codecs", EVIL), "codecs.index_codecs is"),
        (LOGITS, put(*INSIDE, "chunk_shape", [1, 1, GIANT, CLASSES]), "codecs.chunk_shape is"),
        (LOGITS, put(*INSIDE, "chunk_shape", [1, 1, 2, CLASSES]), "codecs.chunk_shape is"),
        (
            LOGITS,
            put(*INSIDE, "codecs", [{"name": "blosc", "configuration": 3}]),
            "cannot be opened",
        ),
        (DIGESTS, put("shape", [2, VIEWS, GIANT]), "shape is"),
        (DIGESTS, put("data_type", "uint8"), "data_type is uint8"),
        (DIGESTS, put("codecs", [{"name": "vlen-utf8"}]), "codecs is ['vlen-utf8']"),
        ("teachers/t/canaries", put("shape", [GIANT, 8, 8, 3]), "shape is"),
        (PLAIN, put("shape", [2, GIANT, CLASSES]), "shape is"),
        (PLAIN, put("data_type", "float64"), "data_type is float64"),
        (PLAIN, put("codecs", EVIL), "codecs is ['numcodecs.evil']"),
        (PLAIN, put(*INSIDE, "codecs", EVIL), "codecs is ['numcodecs.evil']"),
        (PLAIN, put(*INSIDE, "codecs", [{"name": "blosc", "configuration": 3}]), "cannot be opened"),
        (PLAIN, put(*INSIDE, "chunk_shape", [1, GIANT, CLASSES]), "codecs.chunk_shape is"),
        (PLAIN, attribute("data.eval_crop", 2.0), "data.eval_crop is 2.0"),
        (PLAIN, attribute("data.eval_crop", 0.6), "of other views, or of another teacher"),
        (PLAIN, put("attributes", "stillroom", 3), "data.eval_crop is None"),
        ("teachers/t/evaluation", put("shape", [GIANT, CLASSES]), "shape is"),
        ("teachers/t/evaluation", put(*GRID, [2**25, CLASSES * 2**20]), "chunk_grid is"),
    ],
)
def test_metadata_that_lie_are_refused_by_field_and_object(place, node, change, said):
    forge(place, node, change)
    with little_memory(), pytest.raises(StoreError) as refused:
        read_all(place)
    assert said in str(refused.value)
    assert str(place) in str(refused.value) or "teacher t" in str(refused.value)


def test_arrays_within_a_consistent_lie_are_refused_before_memory_is_taken(place):
    """Attributes and arrays agree that a view of a data shard is of 70 terabytes."""
    slots, classes = 2**24, 2**20
    forge(place, "", attribute("sizes", [slots, 2]))
    forge(place, SEEDS, put("shape", [2, slots]))
    forge(place, SEEDS, put(*GRID, [1, slots]))
    forge(place, "teachers/t", attribute("classes", classes))
    forge(place, LOGITS, put("shape", [2, VIEWS, slots, classes]))
    forge(place, LOGITS, put(*GRID, [1, 2, slots, classes]))
    forge(place, LOGITS, put(*INSIDE, "chunk_shape", [1, 1, slots, classes]))
    with little_memory(), pytest.raises(StoreError, match="at most 4294967296 bytes at a time"):
        Cache(place).teacher("t")
