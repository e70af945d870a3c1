"""CPU milliseconds a view of each augmentation and each preset, beside the same by Pillow, as timm does it.

    python benchmarks/operations.py [--photos FOLDER] [--size 224] [--rounds 5] [--result operations]

An operation works on views that are already cut and resized. A preset is the whole way from JPEG to float32 images,
mixing included, on one thread; timm's way is its own transform on Pillow images, and its own mixup.
"""

import argparse
import io
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

import material
import numpy as np
import timing
import torch
from PIL import Image
from timm.data import Mixup, auto_augment, create_transform
from timm.data.auto_augment import AugmentOp, auto_augment_transform, rand_augment_transform
from timm.data.random_erasing import RandomErasing
from torchvision.transforms import v2

from stillroom.pipeline.augment.operation import Draws
from stillroom.pipeline.augment.presets import PRESETS
from stillroom.pipeline.augment.recipe import Recipe, draw_views
from stillroom.pipeline.augment.registry import operation_of
from stillroom.pipeline.config.sections import Views as Settings
from stillroom.pipeline.pixels.painter import Painter
from stillroom.pipeline.render.backend import default_backend
from stillroom.pipeline.render.mixing import to_images
from stillroom.pipeline.render.renderer import Renderer
from stillroom.pipeline.render.request import Request

BATCH = 64
Change = Callable[[Image.Image], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="a folder of JPEGs")
    parser.add_argument("--size", type=int, default=224, help="pixels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="those whose name has this in it")
    parser.add_argument("--result", default="operations")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    random.seed(0)
    # Pillow refuses 0 bits, which timm asks for at its highest magnitudes.
    auto_augment.NAME_TO_OP["PosterizeIncreasing"] = lambda picture, bits, **_: auto_augment.posterize(
        picture, max(bits, 1)
    )
    with tempfile.TemporaryDirectory() as folder:
        source = arguments.photos or material.photos(Path(folder), BATCH, 500, 375)
        encoded = [np.fromfile(path, np.uint8) for path in sorted(source.rglob("*.jpg"))[:BATCH]]
    ways: dict[str, dict[str, timing.Way]] = {
        **{f"operation {name}": way for name, way in operations(encoded, arguments.size).items()},
        **{f"preset {name}": preset(name, encoded, arguments.size) for name in PRESETS},
    }
    rows = []
    for name, pair in ((name, pair) for name, pair in ways.items() if arguments.only in name):
        found = timing.interleaved(pair, arguments.rounds)
        for who, taken in found.items():
            rows.append({"of": name, **taken.row(who, "views")})
        rows[-1]["ours_is_faster_by"] = found["stillroom"].against(found["Pillow"])
        print(rows[-2], rows[-1], sep="\n", flush=True)
    timing.save(arguments.result, rows, size=arguments.size, batch=BATCH, rounds=arguments.rounds)


def operations(encoded: list[np.ndarray], size: int) -> dict[str, dict[str, timing.Way]]:
    """Each operation alone, and Pillow's."""
    pictures = [Image.open(io.BytesIO(image.tobytes())).convert("RGB").resize((size, size)) for image in encoded]
    views = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures]))
    wanted = {"interpolation": Image.Resampling.BILINEAR, "img_mean": (124, 116, 104)}
    always = {**wanted, "magnitude_std": 0.5}

    def timms(name: str, magnitude: float = 9.0) -> Change:
        return AugmentOp(name, prob=1.0, magnitude=magnitude, hparams=wanted)

    erase = RandomErasing(1.0, mode="pixel", device="cpu")
    pairs: dict[str, tuple[dict[str, object], Change]] = {
        "rotate": ({}, timms("Rotate")),
        "shear": ({}, timms("ShearX")),
        "translate": ({}, timms("TranslateXRel")),
        "solarize": ({}, timms("Solarize", 5.0)),
        "posterize": ({}, timms("Posterize")),
        "equalize": ({}, timms("Equalize")),
        "autocontrast": ({}, timms("AutoContrast")),
        "invert": ({}, timms("Invert")),
        "sharpness": ({}, timms("Sharpness")),
        "grayscale": ({}, v2.Grayscale(3)),
        "color_jitter": ({}, v2.ColorJitter(0.4, 0.4, 0.4, 0.1)),
        "gaussian_blur": ({}, v2.GaussianBlur(23, (0.1, 2.0))),
        "pad_crop": ({}, v2.RandomCrop(size, padding=size // 8)),
        "random_erasing": ({"mode": "noise"}, lambda picture: erase(v2.functional.pil_to_tensor(picture).float())),
        "randaugment": (
            {"space": "timm-inc", "std": 0.5, "each_p": 0.5},
            rand_augment_transform("rand-m9-mstd0.5-inc1", dict(always)),
        ),
        "trivialaugment_wide": ({}, v2.TrivialAugmentWide(interpolation=v2.InterpolationMode.BILINEAR)),
        "autoaugment": ({}, auto_augment_transform("original", dict(wanted))),
    }
    return {name: one_operation(name, ranges, views, pictures, change) for name, (ranges, change) in pairs.items()}


def one_operation(
    name: str, ranges: dict[str, object], views: torch.Tensor, pictures: list[Image.Image], change: Change
) -> dict[str, timing.Way]:
    operation = operation_of({"op": name, "p": 1.0, **ranges})
    painter, seeds = Painter(1), np.arange(len(views), dtype=np.uint64)
    view = 0

    def ours() -> int:
        nonlocal view
        view += 1
        painter.paint(views.clone(), [operation.draw(Draws(seeds, view, operation.number), np.empty(0), np.empty(0))])
        return len(views)

    def pillows() -> int:
        for picture in pictures:
            change(picture)
        return len(pictures)

    return {"stillroom": ours, "Pillow": pillows}


def preset(name: str, encoded: list[np.ndarray], size: int) -> dict[str, timing.Way]:
    """From JPEGs to float32 images, mixed: ours, and timm's transform for the same settings."""
    recipe = Settings.model_validate({"preset": name}).recipe
    return {"stillroom": our_way(recipe, encoded, size), "Pillow": timms_way(recipe, encoded, size)}


def our_way(recipe: Recipe, encoded: list[np.ndarray], size: int) -> timing.Way:
    shapes = [Image.open(io.BytesIO(image.tobytes())).size for image in encoded]
    widths, heights = (np.array(sides, np.int32) for sides in zip(*shapes, strict=True))
    renderer = Renderer((size,), len(encoded), operations=recipe.acting, backend=default_backend(recipe), threads=1)
    seeds, rows = np.arange(len(encoded), dtype=np.uint64), np.arange(len(encoded))
    view = 0

    def run() -> int:
        nonlocal view
        requests = []
        for _ in range(4):
            view += 1
            requests.append(Request(encoded, [draw_views(recipe, seeds, view, heights, widths)]))
        for (pixels,) in renderer.stream(requests):
            mix = recipe.mixing.draw(seeds, view)
            to_images(pixels[0], rows, mix.partner.astype(np.int64) if recipe.mixup else None, mix)
        return 4 * len(encoded)

    return run


def timms_way(recipe: Recipe, encoded: list[np.ndarray], size: int) -> timing.Way:
    data = recipe.to_data()
    augment = {item["op"]: item for item in data.get("augment", ())}
    erasing = augment.get("random_erasing", {"p": 0.0, "mode": "constant"})
    policy = None
    if "randaugment" in augment:
        ours = augment["randaugment"]
        policy = f"rand-m{ours['magnitude']:g}-mstd{ours['std']:g}" + "-inc1" * (ours["space"] == "timm-inc")
    jitter = augment.get("color_jitter")
    transform = create_transform(
        size,
        is_training=True,
        scale=tuple(data["area"]),
        interpolation=data.get("resize", "bilinear").partition("-")[0],
        auto_augment=policy,
        color_jitter=(0.4, 0.4, 0.4, 0.1) if jitter else None,
        color_jitter_prob=jitter["p"] if jitter else None,
        grayscale_prob=augment.get("grayscale", {"p": 0.0})["p"],
        gaussian_blur_prob=augment.get("gaussian_blur", {"p": 0.0})["p"],
        re_prob=erasing["p"],
        re_mode={"noise": "pixel", "color": "rand", "constant": "const"}[erasing["mode"]],
    )
    if "trivialaugment_wide" in augment:
        transform.transforms.insert(2, v2.TrivialAugmentWide(interpolation=v2.InterpolationMode.BILINEAR))
    alphas = {way.op: way.model_dump()["alpha"] for way in recipe.mixing.ways}
    mixing = Mixup(alphas.get("mixup", 0.0), alphas.get("cutmix", 0.0), mode="elem") if alphas else None
    labels = torch.zeros(len(encoded), dtype=torch.int64)

    def run() -> int:
        images = [transform(Image.open(io.BytesIO(image.tobytes())).convert("RGB")) for image in encoded]
        batch = torch.stack(images)
        if mixing is not None:
            mixing(batch, labels)
        return len(encoded)

    return run


if __name__ == "__main__":
    main()
