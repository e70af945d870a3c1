"""A teacher that answers with what is no logits stops its task by the sample's key, and writes nothing."""

import pytest
import torch

from stillroom.pipeline.models import teacher
from stillroom.stages.run.build_cache import release
from stillroom.storage.dataset.dataset import Dataset
from stillroom.storage.errors import ModelError
from stillroom.storage.ledger.ledger import Ledger


def listing(place):
    """Every object but the notes that failed tasks leave."""
    return {name: place.read(name) for name in place.list() if not name.endswith(".error")}


@pytest.fixture(scope="module")
def seeded(make_run):
    return make_run(stages=("ingest", "seeds"))


class Answers(torch.nn.Module):
    """A model that answers with whatever it is told to make of its images."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer
        self.pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}  # those of the model it stands for
        self.bias = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return self.answer(x)


def spoiled(value):
    def answer(x):
        logits = x.mean((1, 2, 3))[:, None] * torch.ones(10)
        logits[len(x) // 2, 3] = value
        return logits

    return answer


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (spoiled(float("nan")), "gave a logit that is not finite"),
        (spoiled(float("inf")), "gave a logit that is not finite"),
        (spoiled(float("-inf")), "gave a logit that is not finite"),
        (lambda x: torch.zeros(len(x), 11), r"answers with float32 \[59, 11\], where .* \[59, 10\] are needed"),
        (lambda x: torch.zeros(len(x), 1), r"answers with float32 \[59, 1\]"),
        (lambda x: torch.zeros(10), r"answers with float32 \[10\]"),
        (lambda x: torch.zeros(len(x), 10, 1, 1), r"answers with float32 \[59, 10, 1, 1\]"),
        (lambda x: torch.zeros(len(x) - 1, 10), r"answers with float32 \[58, 10\]"),
        (lambda x: torch.zeros(len(x), 10, dtype=torch.int64), r"answers with int64 \[59, 10\]"),
        (lambda x: (torch.zeros(len(x), 10), None), "answers with a tuple"),
        (lambda x: {"logits": torch.zeros(len(x), 10)}, "answers with a dict"),
    ],
    ids=range(11),
)
def test_a_teacher_that_answers_wrongly_stops_the_task_by_the_sample_and_writes_nothing(
    seeded, run_stages, monkeypatch, answer, said
):
    monkeypatch.setattr(teacher, "build_model", lambda name, classes: Answers(answer))
    monkeypatch.setattr(teacher, "load_weights", lambda *_: None)
    release()
    before = listing(seeded.cache_place)
    try:
        with pytest.raises(ModelError, match=said) as stopped:
            run_stages(seeded, "teacher")
    finally:
        release()
    keys = Dataset(seeded.data_place).index(0).key
    assert any(f"sample {key!r}" in str(stopped.value) for key in keys)
    assert "nothing was written" in str(stopped.value)
    after = listing(seeded.cache_place)
    laid_out = {name for name in after if name.endswith("zarr.json") or "/layout/" in name}
    assert after.keys() - before.keys() <= laid_out  # metadata alone, which its own task wrote
    assert not [name for name in after if "/blocks/" in name or "/c/" in name.removeprefix("seeds/")]
    for name in after.keys() - before.keys():
        seeded.cache_place.delete(name)


@pytest.mark.slow
def test_a_teacher_that_fails_on_the_evaluation_set_leaves_no_logits_of_it(make_run, run_stages, monkeypatch):
    config = make_run()
    name = "teachers/t/evaluation"
    ledger = Ledger(config.cache_place)
    ledger.drop(name)
    for item in list(config.cache_place.list(name)):
        config.cache_place.delete(item)
    before = listing(config.cache_place)
    monkeypatch.setattr(teacher, "build_model", lambda name, classes: Answers(spoiled(float("nan"))))
    monkeypatch.setattr(teacher, "load_weights", lambda *_: None)
    release()
    try:
        with pytest.raises(
            ModelError, match=r"not finite for sample '\d/.*' of the evaluation data; nothing was written"
        ):
            run_stages(config, "teacher")
    finally:
        release()
    assert listing(config.cache_place) == before
