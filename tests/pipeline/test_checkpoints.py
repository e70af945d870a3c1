"""A teacher's checkpoint is read as it is: what wraps it is taken off, and what does not fit is named."""

import argparse
import os
import types

import numpy as np
import pytest
import safetensors.torch
import torch
from conftest import MODEL
from trials import checkpoints
from trials.checkpoints import FORMS, other

from stillroom.pipeline.config.sections import Teacher
from stillroom.pipeline.models.factory import build_model
from stillroom.pipeline.models.teacher import load_teacher
from stillroom.pipeline.models.weights.checkpoint import first_line
from stillroom.pipeline.models.weights.load import load_weights, read_weights, start_from
from stillroom.pipeline.models.weights.state_dict import IN_TRAINING
from stillroom.storage.errors import ModelError

CLASSES = ("apple", "pear", "quince")
pytestmark = pytest.mark.filterwarnings("ignore::Warning:lightning", "ignore::Warning:torch")


@pytest.fixture(scope="module")
def model():
    """Weights that tell every tensor from every other, running statistics included."""
    torch.manual_seed(3)
    made = build_model(MODEL, 3)
    for value in made.state_dict().values():
        value.copy_(torch.rand_like(value) if value.is_floating_point() else value)
    return made


def loaded(path, name=MODEL, classes=3, key=None):
    """A model with the weights of a file, and what is said of them."""
    found = build_model(name, classes)
    note = load_weights(found, name, read_weights(str(path), key))
    return found, note


def assert_same(found, model):
    theirs = model.state_dict()
    for name, value in found.state_dict().items():
        torch.testing.assert_close(value, theirs[name], rtol=0, atol=0, msg=name)


@pytest.mark.parametrize("form", FORMS)
def test_a_checkpoint_of_each_form_gives_the_models_weights(model, tmp_path, form):
    assert_same(loaded(FORMS[form](model, tmp_path))[0], model)


@pytest.mark.parametrize(
    ("form", "taken", "left"), [("timm-ema", "state_dict_ema", "state_dict"), ("torchvision-ema", "model_ema", "model")]
)
def test_of_averaged_weights_and_others_the_averaged_are_taken_and_it_is_said(model, tmp_path, form, taken, left):
    path = FORMS[form](model, tmp_path)
    assert loaded(path)[1] == f"of {path}, {taken} is taken, and not {left} (checkpoint_key chooses)"
    assert_same(loaded(path, key=left)[0], other(model))


def test_a_student_starts_from_the_weights_in_training_as_it_always_did(model, tmp_path):
    path = checkpoints.of_timm_with_ema(model, tmp_path)
    found = build_model(MODEL, 3)
    start_from(found, MODEL, read_weights(str(path), order=IN_TRAINING))
    assert_same(found, other(model))


def test_what_is_beside_a_model_in_lightnings_module_is_left_out_and_it_is_said(model, tmp_path):
    note = loaded(checkpoints.of_lightning(model, tmp_path))[1]
    assert note.endswith("what is under 'net.' is taken, and not 1 other tensors (criterion.weight)")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened(model, tmp_path, dtype):
    half = {key: value.to(dtype) for key, value in model.state_dict().items() if value.is_floating_point()}
    safetensors.torch.save_file(half, tmp_path / "w.safetensors")
    found = loaded(tmp_path / "w.safetensors")[0].state_dict()
    for key, value in half.items():
        assert found[key].dtype == torch.float32
        assert torch.equal(found[key], value.float())


@pytest.mark.parametrize("key", ["state_dict.ema.model", "state_dict.net"])
def test_of_one_model_several_times_the_key_chooses(model, tmp_path, key):
    both = {"ema.model": model, "net": other(model)}
    state = {f"{at}.{name}": value for at, part in both.items() for name, value in part.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "w.ckpt")
    with pytest.raises(ModelError, match=r"several times, after 'ema.model.' and 'net.'; .* \"state_dict.ema.model\""):
        loaded(tmp_path / "w.ckpt")
    assert_same(loaded(tmp_path / "w.ckpt", key=key)[0], both[key.removeprefix("state_dict.")])


def test_a_key_that_is_not_there_is_refused_with_those_that_are(model, tmp_path):
    path = checkpoints.of_timm_with_ema(model, tmp_path)
    with pytest.raises(ModelError, match=r"checkpoint_key = 'model'; there are: state_dict, state_dict_ema"):
        read_weights(str(path), "model")


def test_state_dicts_under_no_known_key_are_named(model, tmp_path):
    torch.save({"backbone_weights": model.state_dict(), "lr": 0.1}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"holds some under backbone_weights; say which as checkpoint_key"):
        loaded(tmp_path / "w.pth")
    assert_same(loaded(tmp_path / "w.pth", key="backbone_weights")[0], model)


def test_harmless_records_are_passed_over_unread(model, tmp_path):
    beside = {
        "args": argparse.Namespace(lr=np.float32(0.1), inner=types.SimpleNamespace(a=1)),
        "rng": np.random.default_rng(0).integers(0, 9, 5),
        "version": torch.__version__,
    }
    torch.save({"model": model.state_dict(), **beside}, tmp_path / "w.pth")
    assert_same(loaded(tmp_path / "w.pth")[0], model)


def test_batch_norms_from_before_they_counted_their_batches_are_taken(tmp_path):
    """As PyTorch saved before 0.4.1, and as converters save."""
    name = "torchvision:mobilenet_v3_small"
    model = build_model(name, 3)
    old = {key: value for key, value in model.state_dict().items() if "num_batches_tracked" not in key}
    safetensors.torch.save_file(old, tmp_path / "w.safetensors")
    assert_same(loaded(tmp_path / "w.safetensors", name)[0], model)


def test_what_torch_says_of_a_file_is_told_without_its_colours(tmp_path):
    class Coloured(ValueError):
        def __str__(self):
            return "\x1b[1mbold\x1b[0m\nmore"

    assert first_line(Coloured()) == "bold"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("w.onnx", b"\x08\x07\x12\x07pytorch", "are an ONNX model; hand a session of it to stillroom.teacher"),
        ("pytorch_model.bin.index.json", b"{}", "are a list of files; write the tensors of all of them into one"),
        ("w.pth", b"these are no weights", "cannot be read as tensors alone: it is none that torch.save wrote"),
        ("w.pth", b"\x80\x02" + bytes(50), "are no checkpoint, or hold more than tensors"),
    ],
)
def test_what_is_no_checkpoint_is_named_without_torchs_advice_to_run_its_code(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=said) as refused:
        loaded(tmp_path / name)
    assert "weights_only" not in str(refused.value)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_a_torchscript_archive_is_refused_with_how_to_save(tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.Identity()), tmp_path / "w.pt")
    with pytest.raises(ModelError, match=r"are a TorchScript archive.*torch\.jit\.load\(path\)\.state_dict"):
        loaded(tmp_path / "w.pt")


def test_a_whole_pickled_model_is_refused_with_its_type_and_how_to_save(model, tmp_path):
    torch.save(model, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"an object of timm\.models\.\S+, whose code would run.*save_file\(") as said:
        loaded(tmp_path / "w.pth")
    assert "\x1b" not in str(said.value)


@pytest.mark.parametrize("name", ["timm:test_efficientnet", "torchvision:mobilenet_v3_small"])
def test_weights_of_another_architecture_are_refused_with_counts(model, tmp_path, name):
    torch.save(model.state_dict(), tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"do not fit .* is .* there .*\d+ missing there, \d+ not the model's"):
        loaded(tmp_path / "w.pth", name)


def test_names_that_nearly_fit_are_told_with_the_nearest_prefix_and_a_way_to_convert(model, tmp_path):
    state = {f"backbone.{name}": value for name, value in model.state_dict().items()}
    state["backbone.classifier.weight"] = state.pop("backbone.fc.weight")
    torch.save(state, tmp_path / "w.pth")
    count = len(model.state_dict())
    with pytest.raises(ModelError) as said:
        loaded(tmp_path / "w.pth")
    text = str(said.value)
    assert "fc.weight is missing there" not in text.partition("(")[0]
    assert "classifier.weight is [3, " in text
    assert f"{count - 1} of the model's {count} tensors are there after the prefix 'backbone.'" in text
    assert "save_file({name[9:]: value for name, value in state.items()}" in text


def test_a_larger_models_weights_are_no_smaller_ones(tmp_path):
    larger = build_model("torchvision:resnet34", 3).state_dict()
    torch.save(larger, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"layer1\.2\.bn1\.bias is \[64\] there and missing in the model"):
        loaded(tmp_path / "w.pth", "torchvision:resnet18")


def test_a_head_of_other_classes_alone_is_told_with_the_setting_that_makes_them_the_teachers(tmp_path):
    safetensors.torch.save_file(build_model(MODEL, 1000).state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match=r"it is the classifier alone.*set classes = 1000 in \[\[teacher\]\]"):
        loaded(tmp_path / "w.safetensors")


def test_files_of_a_models_authors_are_converted_by_timm(tmp_path):
    """Microsoft's Swin has other names for its downsampling and its head than timm's."""
    torch.manual_seed(0)
    name = "timm:swin_tiny_patch4_window7_224"
    model = build_model(name, 3)
    state = {}
    for key, value in model.state_dict().items():
        parts = key.replace("head.fc.", "head.").split(".")
        if parts[0] == "layers" and parts[2] == "downsample":
            parts[1] = str(int(parts[1]) - 1)
        state[".".join(parts)] = value
    torch.save({"model": state}, tmp_path / "swin.pth")
    assert_same(loaded(tmp_path / "swin.pth", name)[0], model)


def test_old_names_of_torchvisions_densenet_are_taken(tmp_path):
    name = "torchvision:densenet121"
    model = build_model(name, 3)
    old = {
        key.replace(".norm1.", ".norm.1.").replace(".conv2.", ".conv.2."): value
        for key, value in model.state_dict().items()
    }
    assert old.keys() != model.state_dict().keys()
    torch.save(old, tmp_path / "w.pth")
    assert_same(loaded(tmp_path / "w.pth", name)[0], model)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("timm:test_vit", checkpoints.vit_npz),
        pytest.param("timm:resnetv2_50x1_bit", checkpoints.bit_npz, marks=pytest.mark.slow),
    ],
)
def test_an_npz_of_vit_and_bit_is_read_by_timms_own_loaders(tmp_path, name, write):
    torch.manual_seed(1)
    model = build_model(name, 3)
    write(model, tmp_path / "w.npz")
    assert_same(loaded(tmp_path / "w.npz", name)[0], model)


def test_an_npz_with_another_head_is_refused_and_not_passed_over(tmp_path):
    checkpoints.vit_npz(build_model("timm:test_vit", 5), tmp_path / "w.npz")
    with pytest.raises(ModelError, match=r"head\.weight, head\.bias are not in it with the model's shape, \[3, 64\]"):
        loaded(tmp_path / "w.npz", "timm:test_vit")


def test_an_npz_of_something_else_or_for_a_model_without_a_loader_is_refused(tmp_path):
    np.savez(tmp_path / "w.npz", a=np.zeros(3))
    with pytest.raises(ModelError, match=r"do not fit timm:test_vit"):
        loaded(tmp_path / "w.npz", "timm:test_vit")
    with pytest.raises(ModelError, match=r"reads no \.npz"):
        loaded(tmp_path / "w.npz")


class RunsWhenUnpickled:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_objects_in_an_npz_are_not_unpickled(tmp_path):
    np.savez(tmp_path / "w.npz", a=np.array([RunsWhenUnpickled(tmp_path / "ran")], dtype=object))
    with pytest.raises(ModelError, match="cannot be read as tensors alone"):
        loaded(tmp_path / "w.npz", "timm:test_vit")
    assert not (tmp_path / "ran").exists()


def section(path, **more):
    return Teacher(**{"name": "t", "model": MODEL, "weights": str(path), "size": 32} | more)


def test_images_of_a_size_that_a_model_does_not_take_are_refused_by_the_setting(tmp_path):
    name = "timm:vit_tiny_patch16_224"
    safetensors.torch.save_file(build_model(name, 3).state_dict(), tmp_path / "w.safetensors")
    teacher = load_teacher(section(tmp_path / "w.safetensors", model=name), CLASSES)
    with pytest.raises(ModelError, match=r"teacher 't' does not take images of 32 pixels: .*; set size in its"):
        teacher(torch.zeros(1, 3, 32, 32))


@pytest.mark.parametrize(
    ("form", "key", "stated"),
    [
        ("timm", None, None),
        ("timm", "state_dict", None),
        ("timm-ema", None, "state_dict_ema"),
        ("timm-ema", "state_dict", None),
        ("torchvision", None, "model"),
    ],
)
def test_the_fingerprint_says_what_was_taken_where_the_first_version_took_something_else(
    model, tmp_path, form, key, stated
):
    path = FORMS[form](model, tmp_path)
    found = load_teacher(section(path, checkpoint_key=key), CLASSES).fingerprint
    assert found.get("checkpoint_key") == stated
    assert ("checkpoint_key" in found) == (stated is not None)
