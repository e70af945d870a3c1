"""Whether a model's answer to an image depends on the other images of its batch, found by asking.

A norm that takes statistics of the batch, dropout, a memory of what came before: of such a model a cache is worth
nothing, since a view's logits are asked for once and replayed in any company.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from stillroom.storage.errors import ModelError

_ALLOWED = {"float32": 1e-3, "bfloat16": 0.1}
"""Share of the logits' own spread by which roundings may make two answers differ, by precision."""


def refuse_company(teacher: Any, size: int) -> None:
    """Ask about one image in two companies, and once more in the first.

    Args:
        teacher: with `name`, `precision` and `ask`, as a `LoadedTeacher` has them.
        size: height and width of the images in pixels.

    Raises:
        ModelError: the answers differ by more than roundings; or it answers with no logits.
    """
    made = torch.Generator().manual_seed(0)
    one, dark, light = torch.rand(3, 3, size, size, generator=made) * torch.tensor([1.0, 0.1, 1.0]).view(3, 1, 1, 1)
    first, again, other = (
        teacher.ask(torch.stack(images))[0].float().cpu() for images in ([one, dark], [one, dark], [one, light + 1.0])
    )
    allowed = _ALLOWED[teacher.precision] * max(1e-6, float(first.std(unbiased=False)))
    for found, why in ((again, "when it is asked again"), (other, "in other company")):
        difference = float((found - first).abs().max())
        if not difference <= allowed and bool(first.isfinite().all()):
            raise ModelError(
                f"teacher {teacher.name!r} answers otherwise about the same image {why}: a logit differs by "
                f"{difference:.3g}. Its answers must depend on one image alone: no batch norm in training mode or "
                "without running statistics, no dropout, no noise"
            )


def refuse_training_mode(name: str, module: Callable[..., Any]) -> None:
    """Refuse a module that is, or has a part, in training mode.

    Raises:
        ModelError: names the first such part.
    """
    parts = module.named_modules() if isinstance(module, nn.Module) else ()
    training = [path for path, part in parts if part.training]
    if training:
        where = f"its part {training[0]!r}" if training[0] else "it"
        raise ModelError(
            f"the module of teacher {name!r} cannot be cached: {where} is in training mode; call module.eval() first"
        )
