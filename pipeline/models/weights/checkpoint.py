"""Reading a checkpoint's file into plain data: tensors, numbers, strings, in dicts and lists. No code of it is run.

Knows formats and nothing of what the data mean. What a checkpoint holds beside its tensors is mostly a few harmless
records, such as a script's arguments; they are passed over unread. Anything else than those, by name, is refused.
"""

import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from stillroom.storage.errors import ModelError

_TERMINAL = re.compile(r"\x1b\[[0-9;]*m")
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")
_REASON = re.compile(r"WeightsUnpickler error:\s*(.+)")
"""In what torch says; before it stands advice to load the file with its code, which is not ours."""
_OTHERS = {
    ".onnx": "are an ONNX model; hand a session of it to stillroom.teacher, as a function",
    ".json": "are a list of files; write the tensors of all of them into one .safetensors file",
    ".h5": "are of Keras; write a .safetensors file with the names of the model here",
    ".msgpack": "are of Flax; write a .safetensors file with the names of the model here",
}
_PASSED_OVER = (
    "argparse.Namespace",
    "types.SimpleNamespace",
    "torch.torch_version.TorchVersion",
    "numpy.dtype",
    "numpy.ndarray",
    *(f"{numpy}.multiarray.{name}" for numpy in ("numpy.core", "numpy._core") for name in ("scalar", "_reconstruct")),
    *(f"{module}.{kind}Path" for module in ("pathlib", "pathlib._local") for kind in ("Posix", "Windows")),
    *(f"{module}.Pure{kind}Path" for module in ("pathlib", "pathlib._local") for kind in ("Posix", "Windows")),
)
"""What trainers put beside the weights: arguments, a metric as a scalar of numpy, the state of its generator, paths."""


class PassedOver:
    """Stands in for a record that is not read: takes whatever it is made of, and keeps nothing."""

    def __new__(cls, *_: object, **__: object) -> "PassedOver":
        """Made of anything."""
        return super().__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        """Made of anything."""

    def __setstate__(self, state: object) -> None:
        """Keeps nothing of it."""


def read_checkpoint(path: str) -> tuple[Any, dict[str, str]]:
    """What a file holds, and strings that were saved with it.

    Args:
        path: a `.safetensors` or `.npz` file, or one that torch.save wrote, whatever its suffix.

    Raises:
        ModelError: it is damaged, of no such format, or holds objects; names them.
    """
    file = Path(path)
    if file.suffix in _OTHERS:
        raise ModelError(f"weights {path} {_OTHERS[file.suffix]}")
    try:
        if file.suffix == ".safetensors":
            return _safetensors(file)
        if file.suffix == ".npz":
            return _npz(file), {}
        return _pickled(file), {}
    except pickle.UnpicklingError as error:
        raise ModelError(f"weights {path} {_refused(error)}") from error
    except RuntimeError as error:
        if "TorchScript" in str(error):
            raise ModelError(
                f"weights {path} are a TorchScript archive, which holds code and is never loaded. Where you trust it, "
                'write safetensors.torch.save_file(dict(torch.jit.load(path).state_dict()), "weights.safetensors")'
            ) from error
        raise ModelError(f"weights {path} cannot be read as tensors alone: {first_line(error)}") from error
    except (
        SafetensorError,
        OSError,
        ValueError,
        MemoryError,
        zipfile.BadZipFile,
    ) as error:
        raise ModelError(f"weights {path} cannot be read as tensors alone: {first_line(error)}") from error

    except (EOFError, LookupError, AttributeError, TypeError) as error:  # a pickle that makes no sense
        raise ModelError(
            f"weights {path} cannot be read as tensors alone: it is none that torch.save wrote ({first_line(error)})"
        ) from error


def first_line(error: BaseException) -> str:
    """What a library says, without its colours and what comes after the first line."""
    return _TERMINAL.sub("", str(error)).strip().partition("\n")[0]


def _safetensors(file: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    with safe_open(file, framework="pt") as opened:
        state = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        return state, dict(opened.metadata() or {})


def _npz(file: Path) -> dict[str, torch.Tensor]:
    with np.load(file, allow_pickle=False) as opened:
        if not isinstance(opened, np.lib.npyio.NpzFile):
            raise ValueError("it is no .npz file")
        return {name: torch.from_numpy(np.array(opened[name])) for name in opened.files}


def _pickled(file: Path) -> Any:
    with torch.serialization.safe_globals([(PassedOver, name) for name in _PASSED_OVER]):
        return torch.load(file, map_location="cpu", weights_only=True)


def _refused(error: pickle.UnpicklingError) -> str:
    """Why a pickle is not read, as the end of a sentence, and what to do."""
    text = _TERMINAL.sub("", str(error))
    named = _GLOBAL.search(text)
    if named is None:
        reason = _REASON.search(text)
        said = reason[1].strip() if reason else first_line(error)
        return f"are no checkpoint, or hold more than tensors, which is never loaded: {said}"
    return (
        f"hold more than tensors: an object of {named[1]}, whose code would run, which is never loaded. Where you "
        "trust the file, load it in Python with the library that made it, and write what is wanted of it alone: "
        'safetensors.torch.save_file(model.state_dict(), "weights.safetensors")'
    )
