"""The out-of-domain demo's images: patches of scikit-learn's two photographs, without labels. Needs no download.

The idea of teaching from a single photograph: Asano, Saeed, "Extrapolating from a single image to a thousand classes
using distillation", 2112.00725.
"""

import itertools
import sys
from pathlib import Path

from PIL import Image
from sklearn.datasets import load_sample_images

_SIZE = 64
_STEP = 24
_NAMES = ("china", "flower")


def write_patches(folder: Path) -> int:
    """Write overlapping patches of 64 × 64 pixels where they are not there yet.

    Args:
        folder: gets all of them, in no folders of classes.

    Returns:
        How many images there are.
    """
    count = 0
    folder.mkdir(parents=True, exist_ok=True)
    for name, photo in zip(_NAMES, load_sample_images().images, strict=True):
        height, width = photo.shape[:2]
        corners = itertools.product(range(0, height - _SIZE + 1, _STEP), range(0, width - _SIZE + 1, _STEP))
        for top, left in corners:
            count += 1
            path = folder / f"{name}-{top:03d}-{left:03d}.jpg"
            if not path.exists():
                temporary = path.with_name(f".{path.name}")
                Image.fromarray(photo[top : top + _SIZE, left : left + _SIZE]).save(temporary, "JPEG", quality=95)
                temporary.replace(path)
    return count


if __name__ == "__main__":
    target = Path(sys.argv[1])
    print(f"images   {write_patches(target):,} patches of two photographs in {target}")
