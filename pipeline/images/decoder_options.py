"""How images are decoded, by whatever decodes them: to judge, to make smaller or to render."""

from collections.abc import Mapping
from typing import Any

import nvidia.dali.types as types

DECODING: Mapping[str, Any] = {"output_type": types.RGB, "hw_decoder_load": 0.0, "jpeg_fancy_upsampling": True}
"""Arguments of DALI's decoders. `hw_decoder_load` 0: two engines that round differently would share a batch by its
composition."""
