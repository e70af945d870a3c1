"""Rows of floats that come in any order and are read in theirs: in memory, or in a file where they are too many.

Knows floats and files; nothing of what they mean.
"""

import weakref
from typing import IO

import numpy as np
import numpy.typing as npt

from .temp_files import nameless_file, naming_its_folder, read_at, write_at


class RowStore:
    """As many rows as are to come, each put once.

    Args:
        count: of rows.
        width: numbers in each.
        within: bytes of memory. More rows than fit go into a nameless file in the folder for temporary files, which
            outlives no process, however that ends.

    Raises:
        OSError: from `put`: there is no room for that file; names the folder.
    """

    def __init__(self, count: int, width: int, within: int) -> None:
        self._width = width
        self._row = 4 * width
        self._memory: npt.NDArray[np.float32] | None = None
        self._file: IO[bytes] | None = None
        if count * self._row <= within:
            self._memory = np.empty((count, width), np.float32)
        else:
            self._file = nameless_file()
            weakref.finalize(self, self._file.close)
        self.missing = count

    def put(self, places: npt.NDArray[np.int64], rows: npt.NDArray[np.float32]) -> None:
        """Keep rows float32 [n, width] for their places, [n]."""
        self.missing -= len(places)
        if self._memory is not None:
            self._memory[places] = rows
            return
        assert self._file is not None
        # Neighbours in one go.
        order = np.argsort(places)
        if not len(order):
            return
        cuts = np.flatnonzero(np.diff(places[order]) != 1) + 1
        with naming_its_folder():
            for run in np.split(order, cuts):
                data = np.ascontiguousarray(rows[run]).data.cast("B")
                write_at(self._file.fileno(), data, int(places[run[0]]) * self._row)

    def rows(self, start: int, stop: int) -> npt.NDArray[np.float32]:
        """Rows that were put: float32 [stop - start, width]."""
        if self._memory is not None:
            return self._memory[start:stop]
        assert self._file is not None
        found = np.empty((stop - start, self._width), np.float32)
        if found.size and read_at(self._file.fileno(), found.data.cast("B"), start * self._row) < found.nbytes:
            raise EOFError("rows were read that were never put")
        return found
