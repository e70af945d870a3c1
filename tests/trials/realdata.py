"""Real data beside the project: only where a variable names it, for extra tests and full trials.

The folder holds
- `photos/`: 200 JPEGs or more;
- `hostile/exif/`: whole images, turned by EXIF, and `hostile/…/`: damaged ones;
- `logits/`: `plain0.npy` and `plain1.npy`, two views of the same photos, and `mixed0.npy` and `mixed1.npy`, mixed ones,
  each float [photos, classes].
"""

import os
from pathlib import Path

VARIABLE = "STILLROOM_TEST_DATA"


def real_data() -> Path | None:
    """The folder that STILLROOM_TEST_DATA names; None where it names none."""
    named = os.environ.get(VARIABLE)
    return Path(named).resolve() if named else None
