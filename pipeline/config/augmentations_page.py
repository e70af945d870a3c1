"""`docs/augmentations.md`, from the operations themselves: what each does, its ranges, its source; and presets."""

import sys
from collections.abc import Mapping

from stillroom.pipeline.augment.mixing import PairMixing
from stillroom.pipeline.augment.operation import Named
from stillroom.pipeline.augment.presets import PRESETS
from stillroom.pipeline.augment.recipe import FIRST
from stillroom.pipeline.augment.registry import registered

from .reference import field_rows

_HEAD = """# Augmentations

A recipe is a list of operations. It begins with the crop, the flip and the colour jitter of the first caches, whose
ranges are settings of `[views]` ([config.md](config.md)); what is listed under `views.augment` follows, in that
order; then pairs of views are mixed as `views.mix` says. A preset is a recipe to start from: whatever else stands in
`[views]` changes it.

```toml
[views]
preset = "paper"                       # optional; what follows changes it
resize = "bicubic-antialias"           # bilinear | bilinear-antialias | bicubic | bicubic-antialias
augment = [                            # in this order
  { op = "randaugment", n = 2, magnitude = 9, std = 0.5 },
  { op = "random_erasing", p = 0.25 },
]
mix = [ { op = "mixup", alpha = 0.8, p = 0.5 }, { op = "cutmix", alpha = 1.0, p = 0.5 } ]
```

- **Draws.** Each operation draws from the sample's seed, the view's number and its own number alone: adding one to a
  recipe changes no draw of another.
- **Pixels.** DALI decodes, cuts, resizes, flips and twists colours (`brightness` … `hue` of `[views]`). The
  operations below act on the resized uint8 view afterwards, by kernels of stillroom's own, in integers: the same bits
  on a CPU and on a GPU, for any batch and any number of threads. Levels differ from Pillow's by at most 1, affine
  maps too where no place falls exactly between two pixels; the tests compare each over its range.
- **Lengths** are shares of the view's side, so that a view means the same at every size at which it is rendered.
- **The resize filter** of new caches is `bilinear` without antialias, as that of the first ones: it is the fastest
  (DALI's antialiased resize takes twice its time), and the recipe's crops enlarge as often as they reduce. A teacher
  that was trained with another one is served better by its own; `estimate` says where they differ.
- **Fingerprint.** Operations, their versions and ranges are part of the cache. A cache that names an operation that
  is not installed is refused by name; [extending.md](extending.md) shows how a package brings one.

## Presets

`views.preset = "NAME"`. What of a source is not a view's stays out: the size, the evaluation, label smoothing,
repeated augmentation. Where a source takes affine pixels by bicubic interpolation, ours are bilinear.

| name | source |
|---|---|
"""
_OPERATIONS = """
## Operations

Under `views.augment`, as `{ op = "NAME", … }`. An operation stands once in a recipe. Those that DALI applies
(`vertical_flip`, and a package's `DaliOperation`s) come before the others.
"""
_MIXING = """
## Mixing

Under `views.mix`. In a data shard and view, samples are paired off by a draw. A pair is mixed in one of the ways,
each with its share `p` of the pairs; what is left over is not mixed. Each view of a pair has a λ of its own, from its
own seed. λ from Beta(α, α) is exact: a uniform for α = 1, else by Jöhnk's or Ulrich's method from counter-based
draws. Teacher and students see the same floats; labels are weighted by the share of the pixels that is really a
view's own. `views.mixup = true`, the default, is mixup of every pair by a uniform λ.
"""


def augmentations_page() -> str:
    """The page in Markdown."""
    lines = [f"| `{name}` | {preset.source} |" for name, preset in PRESETS.items()]
    kinds = {name: kind for name, kind in registered().items() if kind not in FIRST}
    views = {name: kind for name, kind in kinds.items() if not issubclass(kind, PairMixing)}
    pairs = {name: kind for name, kind in kinds.items() if issubclass(kind, PairMixing)}
    return _HEAD + "\n".join([*lines, _OPERATIONS, *_described(views), _MIXING, *_described(pairs)])


def _described(kinds: Mapping[str, type[Named]]) -> list[str]:
    lines = []
    for name, kind in sorted(kinds.items()):
        said = " ".join((kind.__doc__ or "").split())
        lines += [f"### `{name}`", "", f"{said} Source: {kind.source}.", ""]
        lines += ["| key | type | default | what |", "|---|---|---|---|", *field_rows(kind), ""]
    return lines


if __name__ == "__main__":
    sys.stdout.write(augmentations_page())
