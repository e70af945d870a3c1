"""Whether the GPU's JPEG engine could be used: are its pixels the same whatever else is in the batch?

DALI gives a share of each batch, `hw_decoder_load`, to the engine, and the rest to its CUDA decoder, by the batch's
composition. Each image is decoded in several compositions; those that are not the same to the bit in all are counted.
"""

from typing import Any

import numpy as np
import nvidia.dali.fn as fn
import nvidia.dali.types as types
import xxhash
from gpu_ways import Setting
from loader import everything
from nvidia.dali import Pipeline

from stillroom.pipeline.config.config import Config
from stillroom.storage.cache.cache import Cache
from stillroom.storage.dataset.dataset import Dataset

LOADS = (0.0, 0.65, 1.0)


def engine_table(config: Config, setting: Setting) -> list[dict[str, Any]]:
    """For each load: how many images depend on the batch, and how many are those of load 0."""
    images, _ = everything(Cache(config.cache_place), Dataset(config.data_place))
    some = images[: min(len(images), 1000)]
    rows: list[dict[str, Any]] = []
    first: list[int] = []
    print("\nhardware JPEG engine")
    for load in LOADS:
        found = [_hashes(some, setting, load, batch, seed) for batch, seed in _compositions(setting.batch)]
        first = first or found[0]
        unequal = sum(len(set(each)) > 1 for each in zip(*found, strict=True))
        other = sum(a != b for a, b in zip(found[0], first, strict=True))
        rows.append({"load": load, "images": len(some), "depend_on_batch": unequal, "differ_from_load_0": other})
        print(f"  load {load:4}: of {len(some)} images {unequal} depend on the batch, {other} differ from load 0")
    return rows


def _compositions(batch: int) -> list[tuple[int, int]]:
    """Batch sizes and shuffles."""
    return [(batch, 0), (batch, 1), (max(1, batch // 3), 2), (7, 3), (1, 4)]


def _hashes(images: list[np.ndarray], setting: Setting, load: float, batch: int, seed: int) -> list[int]:
    """A hash of each image's decoded pixels, in the images' own order."""
    order = np.random.default_rng(seed).permutation(len(images)) if seed else np.arange(len(images))
    parts = iter([[images[row] for row in order[start : start + batch]] for start in range(0, len(images), batch)])
    gpu = setting.device.type == "cuda"
    pipeline = Pipeline(batch_size=batch, num_threads=setting.threads, device_id=0 if gpu else None)
    with pipeline:
        fed = fn.external_source(source=lambda: next(parts), dtype=types.UINT8, ndim=1, batch=True)
        device = "mixed" if gpu else "cpu"
        pipeline.set_outputs(
            fn.decoders.image(
                fed, device=device, output_type=types.RGB, hw_decoder_load=load, jpeg_fancy_upsampling=True
            )
        )
    pipeline.build()
    found = [0] * len(images)
    done = 0
    while done < len(images):
        (output,) = pipeline.run()
        there = output.as_cpu()
        for place in range(len(there)):
            found[order[done]] = xxhash.xxh3_64_intdigest(np.ascontiguousarray(there.at(place)))
            done += 1
    return found
