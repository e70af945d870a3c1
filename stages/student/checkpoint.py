"""A student's checkpoint: one object that ends with the digest of all before it.

It is replaced as training goes on, so a ledger record beside it would be wrong for a moment each time.
"""

import io
import pickle
from collections.abc import Mapping
from typing import Any

import torch

from stillroom.stages.run.artifacts import CHECKPOINT as CHECKPOINT
from stillroom.storage.errors import DamagedObjectError, MissingObjectError
from stillroom.storage.ledger.fingerprint import digest
from stillroom.storage.objects.base import Place

_DIGITS = 32


def save_checkpoint(place: Place, state: Mapping[str, Any]) -> None:
    """Write tensors and plain values, replacing an earlier checkpoint."""
    sink = io.BytesIO()
    torch.save(dict(state), sink)
    with sink.getbuffer() as written:  # given back by us: a profiler that looks at this frame holds it, too
        end = digest(written)
    sink.write(end.encode())
    place.write(CHECKPOINT, sink.getbuffer())


def load_checkpoint(place: Place) -> dict[str, Any] | None:
    """The last checkpoint, on the CPU; None where there is none.

    Raises:
        DamagedObjectError: it is not what was written.
    """
    body = read_checkpoint(place)
    if body is None:
        return None
    try:
        state: dict[str, Any] = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    except (RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise _damaged(place, str(error)) from error
    return state


def read_checkpoint(place: Place) -> bytes | None:
    """The last checkpoint's bytes, once they match their digest; None where there is none.

    Raises:
        DamagedObjectError: they do not.
    """
    try:
        data = place.read(CHECKPOINT)
    except MissingObjectError:
        return None
    body, stated = data[:-_DIGITS], data[-_DIGITS:]
    if digest(body).encode() != stated:
        raise _damaged(place, "its digest does not match")
    return body


def _damaged(place: Place, why: str) -> DamagedObjectError:
    return DamagedObjectError(
        f"{place}/{CHECKPOINT} is damaged ({why}); delete it to train the student from the beginning"
    )
