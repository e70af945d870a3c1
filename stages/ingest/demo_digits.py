"""The demo's images: scikit-learn's handwritten digits as JPEGs in class folders. Needs no download.

Source: Alpaydin, Kaynak, "Optical recognition of handwritten digits", UCI; 1,797 images of 8 × 8 pixels.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

_SIZE = 32


def write_digits(folder: Path) -> int:
    """Write the digits, enlarged to 32 × 32, where they are not there yet.

    Args:
        folder: gets one folder for each digit.

    Returns:
        How many images there are.
    """
    digits = load_digits()
    grey = np.asarray(digits.images / 16.0 * 255.0).round().astype(np.uint8)
    for number, (image, label) in enumerate(zip(grey, digits.target, strict=True)):
        path = folder / str(int(label)) / f"{number:04d}.jpg"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}")
            large = Image.fromarray(image).resize((_SIZE, _SIZE), Image.Resampling.BICUBIC)
            large.save(temporary, "JPEG", quality=95)
            temporary.replace(path)
    return len(grey)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    print(f"images   {write_digits(target):,} handwritten digits in {target}")
