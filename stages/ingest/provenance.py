"""What an ingest is made from: settings and files, and refusing to go on where they have changed."""

from stillroom.pipeline.config.config import Config
from stillroom.storage.errors import DataError
from stillroom.storage.ledger.fingerprint import Fingerprint, refuse_difference, stated
from stillroom.storage.ledger.ledger import Record
from stillroom.storage.objects.base import Place

from .class_names import labelled
from .sources.open import url_of
from .sources.source import Source

_REMEDY = "go back to the old setting, or ingest into another run.dir or data.dir"
_LATER = {"data.max_side": None, "data.labels": True}


def shrinks(config: Config, part: str) -> bool:
    """Whether images of a part are made smaller: a tar that is somebody else's is then not only indexed."""
    return part == "train" and config.data.max_side is not None


def made_from(config: Config, part: str, source: Source | None = None) -> Fingerprint:
    """The settings of a part of the data; and which files there are, where a source is given."""
    fields = {
        f"data.{part}": url_of(config, part),
        "data.holdout": config.data.holdout,
        "data.samples_per_shard": config.data.samples_per_shard,
        "data.max_pixels": config.data.max_pixels,
        "data.classes": list(config.data.classes) if config.data.classes else None,
        "data.max_side": config.data.max_side if shrinks(config, part) else None,
        "data.labels": labelled(config, part),
    }
    made = stated(fields, _LATER)
    return made if source is None else {**made, "listing": source.listing}


def refuse_other_source(place: Place, stored: Fingerprint, wanted: Fingerprint) -> None:
    """Compare what a data set was made from with what this run would make it from.

    Raises:
        FingerprintError: they differ.
    """
    refuse_difference(f"data {place}", stored, wanted, _REMEDY)


def refuse_changed_source(config: Config, part: str, place: Place, record: Record, source: Source) -> None:
    """Refuse to go on with an ingest that began with other settings or other files.

    Raises:
        FingerprintError: a setting differs.
        DataError: files were added, removed or changed.
    """
    stored = dict(record.facts["made_from"])
    listing = stored.pop("listing")
    refuse_other_source(place, stored, made_from(config, part))
    if listing != source.listing:
        raise DataError(
            f"the files of data.{part} have changed since they began to be ingested into {place}; "
            f"delete {place} to ingest them anew, or use another run.dir"
        )
