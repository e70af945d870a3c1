"""Fitting a state dict's names to a model's: what wrappers put before them is taken off; what is left must be the same.

Knows names and shapes; nothing of files, nor of what any library calls its layers.
"""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch

from stillroom.storage.errors import ModelError

_WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""Names that torch.compile, FSDP and checkpointed modules put in between, wherever they stand."""
_NOT_NEEDED = ("num_batches_tracked",)
"""Of batch norms: files from before PyTorch 0.4.1, and some converters, do without; a model in use never reads it."""
_NOT_WEIGHTS = ("n_averaged",)
"""What AveragedModel counts, beside the weights that it holds under "module."."""

_TRIED = 16
"""Prefixes that are looked into: a model is found under one of those under which most of its names are."""


@dataclass(frozen=True)
class Fitted:
    """A state dict in a model's own names.

    Attributes:
        state: exactly the model's names.
        prefix: what stood before each of them.
        left_out: names that stood elsewhere than under that prefix, and were not needed.
    """

    state: dict[str, torch.Tensor]
    prefix: str
    left_out: tuple[str, ...]


def fit_names(
    own: Mapping[str, torch.Tensor],
    state: Mapping[str, torch.Tensor],
    what: str,
    *,
    free: Collection[str] = (),
    head: tuple[str, ...] = (),
    key: str | None = None,
) -> Fitted:
    """Tensors of a state dict by a model's own names.

    Args:
        own: the model's.
        state: the file's.
        what: of the message: "weights w.pth do not fit timm:x".
        free: own names whose tensors may be missing or of another shape: the model's are kept.
        head: what the names of the classifier's tensors begin with.
        key: under which the state dict was found in its checkpoint.

    Raises:
        ModelError: they do not fit; names what differs, the nearest prefix, and what to do.
    """
    state = {_WRAPPERS.sub("", name): value for name, value in state.items() if name not in _NOT_WEIGHTS}
    whole = [prefix for prefix in _prefixes(own, state) if not _missing(own, state, prefix, free)]
    if len(whole) > 1 and "" not in whole:
        shown = " and ".join(f"{prefix!r}" for prefix in sorted(whole))
        such = f"{key}.{sorted(whole)[0]}" if key else sorted(whole)[0]
        raise ModelError(
            f"{what}: the model is there several times, after {shown}; say which as checkpoint_key in [[teacher]], "
            f'such as checkpoint_key = "{such.rstrip(".")}"'
        )
    prefix = "" if "" in whole or not whole else whole[0]
    mine = {name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)}
    if not whole or mine.keys() - own.keys():
        prefix = prefix if whole else _nearest(own, state, free)
        raise ModelError(f"{what}: {_differences(own, state, prefix, free, head)}")
    filled = {name: mine[name] if _same(name, own, mine) else own[name] for name in own}
    return Fitted(filled, prefix, tuple(name for name in state if not name.startswith(prefix)))


def _prefixes(own: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]) -> list[str]:
    """What may stand before the model's names, the most frequent first; the bare names before others."""
    counts: Counter[str] = Counter()
    for name in state:
        parts = name.split(".")
        for cut in range(len(parts)):
            if ".".join(parts[cut:]) in own:
                counts[".".join([*parts[:cut], ""]) if cut else ""] += 1
    return [prefix for prefix, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_TRIED]]


def _same(name: str, own: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor]) -> bool:
    return name in found and found[name].shape == own[name].shape


def _missing(
    own: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor], prefix: str, free: Collection[str]
) -> list[str]:
    """Own names without a tensor of their shape under a prefix."""
    found = {name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)}
    return [name for name in own if not _same(name, own, found) and name not in free and not _optional(name, found)]


def _optional(name: str, found: Mapping[str, torch.Tensor]) -> bool:
    return name.rpartition(".")[2] in _NOT_NEEDED and name not in found


def _nearest(own: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor], free: Collection[str]) -> str:
    """The prefix under which most of the model is found."""
    return min(_prefixes(own, state), key=lambda prefix: len(_missing(own, state, prefix, free)), default="")


def _differences(
    own: Mapping[str, torch.Tensor],
    state: Mapping[str, torch.Tensor],
    prefix: str,
    free: Collection[str],
    head: tuple[str, ...],
) -> str:
    """The first that differs with both shapes, how many of each kind there are, and what to do."""
    found = {name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)}
    names = [name for name in sorted(own.keys() | found.keys()) if name not in free and not _optional(name, found)]
    wrong = [name for name in names if name not in own or not _same(name, own, found)]
    counted = {
        "missing there": sum(name not in found for name in wrong),
        "not the model's": sum(name not in own for name in wrong),
        "of another shape": sum(name in own and name in found for name in wrong),
    }
    said = ", ".join(f"{count} {kind}" for kind, count in counted.items() if count)
    first = f"{wrong[0]} is {_shape(found, wrong[0])} there and {_shape(own, wrong[0])} in the model"
    more = f" ({said}: {', '.join(wrong[:4])}{', …' if len(wrong) > 4 else ''})" if len(wrong) > 1 else ""
    return f"{first}{more}{_advice(own, found, prefix, wrong, head)}"


def _advice(
    own: Mapping[str, torch.Tensor],
    found: Mapping[str, torch.Tensor],
    prefix: str,
    wrong: Sequence[str],
    head: tuple[str, ...],
) -> str:
    """What to do about what differs."""
    fitting = sum(_same(name, own, found) for name in own)
    both = all(name in own and name in found and found[name].dim() for name in wrong)
    if head and both and all(name.startswith(head) for name in wrong):
        classes = found[wrong[0]].shape[0]
        return (
            f"; it is the classifier alone: where its {classes} classes are the teacher's own, and not the data set's, "
            f"set classes = {classes} in [[teacher]]"
        )
    if not fitting:
        return "; none of the model's names is there with its shape: are these weights of another model?"
    after = f" after the prefix {prefix!r}" if prefix else ""
    names = f"name[{len(prefix)}:]" if prefix else "their_name(name)"
    return (
        f"; {fitting} of the model's {len(own)} tensors are there{after}. Where the others have other names, write a "
        f"file with the model's: safetensors.torch.save_file({{{names}: value for name, value in state.items()}}, "
        '"weights.safetensors")'
    )


def _shape(state: Mapping[str, torch.Tensor], name: str) -> str:
    return str(list(state[name].shape)) if name in state else "missing"
