"""The demo's images: scikit-learn's handwritten digits as JPEGs in class folders. Needs no download.

Source: Alpaydin, Kaynak, "Optical recognition of handwritten digits", UCI; 1,797 images of 8 × 8 pixels.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import torchvision
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
    grey = torch.from_numpy(np.asarray(digits.images, np.float32) / 16.0)[:, None]
    large = torch.nn.functional.interpolate(grey, size=(_SIZE, _SIZE), mode="bicubic", align_corners=False)
    pixels = (large.clamp(0.0, 1.0) * 255.0).round().to(torch.uint8).expand(-1, 3, -1, -1)
    for number, (image, label) in enumerate(zip(pixels, digits.target, strict=True)):
        path = folder / str(int(label)) / f"{number:04d}.jpg"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            encoded = torchvision.io.encode_jpeg(image.contiguous(), quality=95)
            temporary = path.with_name(f".{path.name}")
            temporary.write_bytes(encoded.numpy().tobytes())
            temporary.replace(path)
    return len(pixels)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    print(f"images   {write_digits(target):,} handwritten digits in {target}")
