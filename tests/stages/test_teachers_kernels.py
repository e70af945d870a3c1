"""Teachers whose forward pass is compiled or recorded: one shape, another fingerprint, and no other default."""

import pytest
import torch
from torch import nn

from stillroom.pipeline.config.sections import Teacher
from stillroom.pipeline.models.teacher import load_teacher
from stillroom.stages.run import build_cache as built_module
from stillroom.stages.run.build_cache import release
from stillroom.stages.student.session import Session
from stillroom.stages.teacher import worker_cache
from stillroom.storage.cache.cache import Cache
from stillroom.storage.errors import FingerprintError, ModelError
from stillroom.storage.ledger.ledger import Ledger

CLASSES = tuple(str(digit) for digit in range(10))


@pytest.fixture
def compiled(monkeypatch):
    """torch.compile, noted and left out: what is tested is what goes into it. The notes: each model's arguments."""
    asked = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **how: asked.append(how))
    return asked


def section_of(teacher_weights, **more):
    return Teacher(name="t", model="timm:test_resnet", weights=str(teacher_weights), size=32, batch_size=8, **more)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 20])
def test_a_compiled_teacher_sees_one_shape_only(teacher_weights, compiled, count):
    teacher = load_teacher(section_of(teacher_weights, compile=True), CLASSES)
    assert compiled == [{"dynamic": False}]
    shapes = []
    teacher.model.register_forward_pre_hook(lambda _, given: shapes.append(tuple(given[0].shape)))
    images = torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(count))
    found = teacher(images)
    assert set(shapes) == {(8, 3, 32, 32)}
    plain = load_teacher(section_of(teacher_weights), CLASSES)(images)
    assert found.shape == plain.shape == (count, 10)
    torch.testing.assert_close(found, plain, rtol=0, atol=1e-4)


def test_an_image_is_answered_alike_whatever_is_beside_it(teacher_weights, compiled):
    teacher = load_teacher(section_of(teacher_weights, compile=True), CLASSES)
    images = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    whole = teacher(images)
    assert torch.equal(teacher(images[:3]), whole[:3])


def test_a_graph_without_a_gpu_is_refused_by_name(teacher_weights):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ModelError, match="graph = true, which needs an NVIDIA GPU"):
        load_teacher(section_of(teacher_weights, graph=True), CLASSES)


KERNELS = ("benchmark", "deterministic", "allow_tf32")


@pytest.mark.parametrize(("precision", "tf32"), [("float32", False), ("bfloat16", True)])
def test_kernels_are_chosen_for_the_teacher_alone_and_not_for_who_comes_after_it(teacher_weights, precision, tf32):
    """`run` has trained its students with the teacher's kernels, which are slower, and `student` had not."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=True, deterministic=False, allow_tf32=True):
        before = [getattr(torch.backends.cudnn, name) for name in KERNELS]
        teacher = load_teacher(section_of(teacher_weights, precision=precision), CLASSES)
        seen = []
        teacher.model.register_forward_pre_hook(
            lambda *_: seen.append([getattr(torch.backends.cudnn, name) for name in KERNELS])
        )
        teacher(torch.rand(9, 3, 32, 32))
        assert [getattr(torch.backends.cudnn, name) for name in KERNELS] == before == [True, False, True]
    assert seen == [[False, True, tf32]] * 2


@pytest.mark.slow
def test_what_the_teacher_needs_is_built_once_for_its_stages_and_let_go_before_the_students(
    make_run, run_stages, monkeypatch
):
    loaded, kept = [], []
    monkeypatch.setattr(worker_cache, "load_teacher", lambda *about: loaded.append(about) or load_teacher(*about))
    take = Session.take
    monkeypatch.setattr(Session, "take", lambda self, batch: kept.append(built()) or take(self, batch))
    release()
    config = make_run({"cache": {"plain": True}})
    assert built() > 0
    run_stages(config, "verify", "student")
    assert len(loaded) == 1
    assert set(kept) == {0}


def built():
    return sum(builder.cache_info().currsize for builder in built_module._builders)


def test_kernels_are_part_of_the_fingerprint_where_they_are_not_the_default(teacher_weights, compiled):
    plain = load_teacher(section_of(teacher_weights), CLASSES).fingerprint
    other = load_teacher(section_of(teacher_weights, compile=True), CLASSES).fingerprint
    assert plain.keys() == {"model", "weights", "size", "precision", "mean", "std"}
    assert other == {**plain, "compile": True}


def test_a_cache_is_not_gone_on_with_by_other_kernels(make_run, make_config, run_stages, compiled):
    config = make_run()
    same = make_config(folder=config.run.dir)
    assert run_stages(same, "teacher")["teacher"].ran == 0
    other = make_config({"teacher": {"compile": True}}, folder=config.run.dir)
    with pytest.raises(FingerprintError, match="compile = False, this run has compile = True"):
        run_stages(other, "teacher")


@pytest.mark.slow
def test_a_compiled_student_trains_and_is_another_student(make_run, make_config, run_stages, compiled):
    config = make_run()
    run_stages(config, "student")
    made_from = Ledger(config.student_place(config.student[0])).get("student").facts["made_from"]
    assert "compile" not in made_from["student"]
    own = make_config({"student": {"compile": True, "name": "compiled"}}, folder=config.run.dir)
    run_stages(own, "student")
    assert compiled == [{}]
    other = make_config({"student": {"compile": True}}, folder=config.run.dir)
    with pytest.raises(FingerprintError, match=r"student\.compile"):
        run_stages(other, "student")


@pytest.mark.slow
def test_torch_compile_itself_gives_nearly_the_same_logits(teacher_weights):
    teacher = load_teacher(section_of(teacher_weights, compile=True), CLASSES)
    images = torch.rand(11, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    plain = load_teacher(section_of(teacher_weights), CLASSES)(images)
    torch.testing.assert_close(teacher(images), plain, rtol=0, atol=1e-3)


def test_a_cache_of_a_compiled_teacher_says_so(make_run, compiled):
    config = make_run({"teacher": {"compile": True}})
    cache = Cache(config.cache_place)
    assert cache.teacher("t").info.fingerprint["compile"] is True
