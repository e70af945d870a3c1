"""Saving a student does not depend on who else looks."""

import torch

from stillroom.stages.student import checkpoint
from stillroom.storage.objects.local import LocalPlace


def test_a_profiler_that_holds_a_frame_does_not_stop_it(tmp_path, monkeypatch):
    """Dask samples its workers' frames, and holds what they hold: here, what was given to be digested."""
    held, digest = [], checkpoint.digest

    def watched(data):
        held.append(data)
        return digest(data)

    monkeypatch.setattr(checkpoint, "digest", watched)
    place = LocalPlace(tmp_path)
    checkpoint.save_checkpoint(place, {"step": 3, "weights": torch.arange(5)})
    monkeypatch.undo()
    assert len(held) == 1
    found = checkpoint.load_checkpoint(place)
    assert found["step"] == 3
    assert found["weights"].tolist() == [0, 1, 2, 3, 4]
