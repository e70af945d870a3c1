"""Damage after the first touch: an object that was good when a cache first read it, and is read again by ranges."""

import random
import tempfile
from pathlib import Path

import numpy as np

from stillroom.storage.cache.cache import Cache
from stillroom.storage.cache.teacher_logits import TeacherLogits
from stillroom.storage.codecs.registry import TransformCodec, TransformModel
from stillroom.storage.errors import DamagedObjectError, StillroomError

from . import plaincache
from .table import Row

CODECS = ("float16", "float32", "int8", "topk:3", "sqrtp")
COUNT = 1000


def measure(count: int | None = None, seed: int = 0, folder: Path | None = None) -> list[Row]:
    """Flips and cuts (one in five) of a Zarr shard of logits that was read before, an equal number for each codec."""
    rng = random.Random(seed)
    each = max(1, (COUNT if count is None else count) // len(CODECS))
    rows = []
    for codec in CODECS:
        with tempfile.TemporaryDirectory(dir=folder) as made:
            rows.append(_codec(Path(made), codec, each, rng))
    return rows


def _codec(folder: Path, codec: str, count: int, rng: random.Random) -> Row:
    place = plaincache.whole(folder, codec)
    cache = Cache(place)
    teacher = cache.teacher("t")
    where = [(shard, view) for shard in range(3) for view in range(4)]
    good = {(shard, view): teacher.logits(shard, view) for shard, view in where}
    found = unread = 0
    wrong = []
    for number in range(count):
        shard, view = rng.choice(where)
        path = folder / f"teachers/t/logits/c/{shard}/{view // plaincache.BLOCK}/0/0"
        data = path.read_bytes()
        at = rng.randrange(len(data))
        flipped = data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
        path.write_bytes(data[: at if number % 10 else 0] if number % 5 == 0 else flipped)
        try:
            read = teacher.logits(shard, view)
            if np.array_equal(read, good[shard, view]):
                unread += 1
            else:
                wrong.append(f"byte {at} of {path.name}: other logits came back")
        except DamagedObjectError as error:
            if all(part in str(error) for part in ("logits", "teacher t", f"data shard {shard}", f"view {view}")):
                found += 1
            else:
                wrong.append(f"not named: {error}")
        except Exception as error:
            wrong.append(f"byte {at} of {len(data)}, {number}: {type(error).__name__}: {error}")
        finally:
            path.write_bytes(data)
    # Else it would refuse whatever it reads a second time.
    again = [at for at in where if not _reads(teacher, at, good[at])]
    wrong += [f"{at} does not read again" for at in again]
    notes = "; ".join([f"{unread} in chunks of other views", *wrong[:3]])
    tried = count - unread + len(again)
    return Row(f"damage after the first touch, {codec}", "found, data shard and view named", found, tried, notes)


def _reads(teacher: TeacherLogits, at: tuple[int, int], good: np.ndarray) -> bool:
    try:
        return np.array_equal(teacher.logits(*at), good)
    except StillroomError:
        return False


def transform(model: TransformModel, rows: np.ndarray, count: int, seed: int = 0) -> Row:
    """The codec that is fitted, whose chunks are damaged on their own."""
    codec, rng = TransformCodec(model), random.Random(seed)
    good = codec.encode_rows(rows)
    codec.decode_rows(good, *rows.shape)
    found = 0
    for number in range(count):
        data = bytearray(good)
        at = rng.randrange(len(data))
        data[at] ^= 1 << rng.randrange(8)
        try:
            codec.decode_rows(bytes(data[:at] if number % 5 == 0 else data), *rows.shape)
        except StillroomError:
            found += 1
    return Row("damaged chunks, transform", "found", found, count)
