"""A batch moves to a device whole: what trainers that move batches themselves rely on."""

import numpy as np
import torch

from stillroom.pipeline.replay.batch import Batch


def test_tensors_move_and_the_rest_stays():
    images, numbers = torch.rand(4, 3, 8, 8), torch.arange(4)
    batch = Batch(
        images=images,
        logits=None,
        labels=numbers,
        partner_labels=numbers,
        shares=images[:, 0, 0, 0],
        uids=np.arange(4, dtype=np.uint64),
        views=numbers,
        sources=numbers,
        other_images=None,
        proved=3,
    )
    moved = batch.to("meta", non_blocking=True)
    for name in ("images", "labels", "partner_labels", "shares", "views", "sources"):
        assert getattr(moved, name).device.type == "meta", name
        assert getattr(batch, name).device.type == "cpu", name
    assert (moved.logits, moved.other_images, moved.proved, len(moved)) == (None, None, 3, 4)
    assert moved.uids is batch.uids
