"""Nameless files in the folder for temporary files: on disk as long as they are open, outliving no process."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO


def nameless_file() -> IO[bytes]:
    """A new one, unbuffered; whoever asks closes it."""
    return tempfile.TemporaryFile(buffering=0)


@contextmanager
def naming_its_folder() -> Iterator[None]:
    """An error of the system in writing one says where: a full disk is no use to a reader without the place."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = tempfile.gettempdir()
        raise


def read_at(file: int, into: memoryview, start: int) -> int:
    """Fill memory from a place in an open file; how many bytes there were, fewer where the file ends before."""
    done = 0
    while done < len(into) and (count := os.preadv(file, [into[done:]], start + done)):
        done += count
    return done


def write_at(file: int, data: memoryview, start: int) -> None:
    """Put all of it to a place in an open file."""
    done = 0
    while done < len(data):
        done += os.pwrite(file, data[done:], start + done)
