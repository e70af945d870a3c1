"""Checkpoints as people have them: made by the libraries that make them, and loaded, or refused by name."""

import argparse
import collections
import os
import pathlib

import numpy as np
import pytest
import timm
import torch
from timm.utils import CheckpointSaver, ModelEmaV3
from torch import nn

from stillroom.pipeline.models.factory import build_model
from stillroom.pipeline.models.weights.fit import load_weights, start_from
from stillroom.pipeline.models.weights.weights import read_weights
from stillroom.storage.errors import ModelError

NAME, CLASSES = "timm:test_resnet", 6


def fresh(seed, classes=CLASSES):
    torch.manual_seed(seed)
    return build_model(NAME, classes)


@pytest.fixture(scope="module")
def model():
    return fresh(1)


def same(one, other):
    return all(torch.equal(value, other.state_dict()[key]) for key, value in one.state_dict().items())


def loaded(path, key=None):
    found = fresh(2)
    load_weights(found, NAME, read_weights(str(path), key))
    return found


def by_timm(model, folder):
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    arguments = argparse.Namespace(model="resnet", lr=0.1, where=pathlib.Path("out"), mean=(0.5, 0.5, 0.5))
    saver = CheckpointSaver(model, optimizer, arguments, checkpoint_dir=str(folder), recovery_dir=str(folder))
    saver.save_checkpoint(3, metric=np.float64(71.5))
    return folder / "last.pth.tar"


def saved(make):
    def write(model, folder):
        torch.save(make(model), folder / "weights.pth")
        return folder / "weights.pth"

    return write


class Task(nn.Module):
    """What a trainer wraps a model in, with a loss that has weights too."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.criterion = nn.Linear(3, 2)


def by_lightning(model, folder):
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self, rate, options):
            super().__init__()
            self.save_hyperparameters()
            self.model = model
            self.loss = nn.Linear(2, 2)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    trainer = lightning.Trainer(
        max_steps=0, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=folder, enable_checkpointing=True,
    )  # fmt: skip
    trainer.strategy.connect(Module(0.1, {"a": np.float32(2)}))
    trainer.save_checkpoint(folder / "lightning.ckpt", weights_only=True)
    return folder / "lightning.ckpt"


FORMS = {
    "a state dict": saved(lambda m: m.state_dict()),
    "timm's CheckpointSaver": by_timm,
    "torchvision's references": saved(
        lambda m: {"model": m.state_dict(), "epoch": 1, "args": argparse.Namespace(lr=0.1), "scaler": {"scale": 2.0}}
    ),
    "model_state_dict": saved(lambda m: {"model_state_dict": m.state_dict(), "loss": np.float32(0.5)}),
    "DDP": saved(lambda m: {f"module.{key}": value for key, value in m.state_dict().items()}),
    "torch.compile": saved(lambda m: torch.compile(m).state_dict()),
    "DDP of torch.compile": saved(lambda m: {"model": {f"module._orig_mod.{k}": v for k, v in m.state_dict().items()}}),
    "Lightning": by_lightning,
    "a wrapper with a loss": saved(lambda m: {"state_dict": Task(m).state_dict(), "hyper_parameters": {"lr": 1}}),
    "torch's AveragedModel": saved(lambda m: torch.optim.swa_utils.AveragedModel(m).state_dict()),
    "transformers' layout": saved(lambda m: {f"timm_model.{key}": value for key, value in m.state_dict().items()}),
    "DINO's": saved(lambda m: {"teacher": {f"module.backbone.{k}": v for k, v in m.state_dict().items()}, "epoch": 9}),
    "settings of any class": saved(
        lambda m: {
            "state_dict": m.state_dict(),
            "when": collections.UserDict(a=1),
            "last": collections.defaultdict(list, {"a": [1]}),
            "more": collections.deque([np.zeros(2)]),
        }
    ),
}


@pytest.mark.filterwarnings("ignore:The `srun` command")
@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_loaded(model, tmp_path, form):
    path = FORMS[form](model, tmp_path)
    assert same(loaded(path), model)


def test_a_file_in_torchs_first_format_is_loaded(model, tmp_path):
    held = {"state_dict": model.state_dict(), "args": argparse.Namespace(a=1)}
    torch.save(held, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert same(loaded(tmp_path / "old.pth"), model)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened(model, tmp_path, dtype):
    state = {key: value.to(dtype) if value.is_floating_point() else value for key, value in model.state_dict().items()}
    torch.save(state, tmp_path / "half.pth")
    found = loaded(tmp_path / "half.pth").state_dict()
    for key, value in state.items():
        assert torch.equal(found[key], value.to(found[key].dtype))
        assert found[key].dtype in (torch.float32, torch.int64)


def test_averaged_weights_are_taken_first_and_others_by_their_key(tmp_path):
    plain, averaged = fresh(3), fresh(4)
    ema = ModelEmaV3(plain)
    ema.module.load_state_dict(averaged.state_dict())
    optimizer = torch.optim.SGD(plain.parameters(), 0.1)
    saver = CheckpointSaver(plain, optimizer, model_ema=ema, checkpoint_dir=str(tmp_path), recovery_dir=str(tmp_path))
    saver.save_checkpoint(0, metric=1.0)
    path = tmp_path / "last.pth.tar"
    weights = read_weights(str(path))
    assert (weights.key, weights.others) == ("state_dict_ema", ("state_dict",))
    assert same(loaded(path), averaged)
    assert same(loaded(path, "state_dict"), plain)
    with pytest.raises(ModelError, match=r"checkpoint_key = 'model'; there are: 'state_dict_ema', 'state_dict'"):
        read_weights(str(path), "model")


@pytest.mark.parametrize(("name", "prefix"), [("vit_tiny_patch16_224", ""), ("resnetv2_50x1_bit", "resnet/")])
def test_googles_arrays_are_loaded_by_timms_own_reader(tmp_path, name, prefix):
    """Of BiT and ViT, by the names and layouts that timm's reader looks for, filled from a model of its own."""
    torch.manual_seed(5)
    source = timm.create_model(name, num_classes=7)
    arrays = googles_vit(source) if prefix == "" else googles_bit(source, prefix)
    np.savez(tmp_path / "weights.npz", **arrays)
    found = build_model(f"timm:{name}", 7)
    load_weights(found, f"timm:{name}", read_weights(str(tmp_path / "weights.npz")))
    image = torch.rand(1, 3, 224, 224)
    with torch.inference_mode():
        assert torch.allclose(found.eval()(image), source.eval()(image), atol=1e-5)


def googles_vit(model):
    state = {key: value.numpy() for key, value in model.state_dict().items()}
    heads = model.blocks[0].attn.num_heads
    width = state["cls_token"].shape[-1]
    found = {
        "embedding/kernel": state["patch_embed.proj.weight"].transpose(2, 3, 1, 0),
        "embedding/bias": state["patch_embed.proj.bias"],
        "cls": state["cls_token"],
        "Transformer/posembed_input/pos_embedding": state["pos_embed"],
        "Transformer/encoder_norm/scale": state["norm.weight"],
        "Transformer/encoder_norm/bias": state["norm.bias"],
        "head/kernel": state["head.weight"].T,
        "head/bias": state["head.bias"],
    }
    for number in range(len(model.blocks)):
        block, there = f"blocks.{number}.", f"Transformer/encoderblock_{number}/"
        attention = there + "MultiHeadDotProductAttention_1/"
        for place, part in enumerate(("query", "key", "value")):
            weight = state[block + "attn.qkv.weight"][place * width : (place + 1) * width]
            bias = state[block + "attn.qkv.bias"][place * width : (place + 1) * width]
            found[f"{attention}{part}/kernel"] = weight.T.reshape(width, heads, -1)
            found[f"{attention}{part}/bias"] = bias.reshape(heads, -1)
        found[attention + "out/kernel"] = state[block + "attn.proj.weight"].T.reshape(heads, -1, width)
        found[attention + "out/bias"] = state[block + "attn.proj.bias"]
        for place, norm in enumerate(("norm1", "norm2")):
            found[f"{there}LayerNorm_{2 * place}/scale"] = state[f"{block}{norm}.weight"]
            found[f"{there}LayerNorm_{2 * place}/bias"] = state[f"{block}{norm}.bias"]
        for place, layer in enumerate(("fc1", "fc2")):
            found[f"{there}MlpBlock_3/Dense_{place}/kernel"] = state[f"{block}mlp.{layer}.weight"].T
            found[f"{there}MlpBlock_3/Dense_{place}/bias"] = state[f"{block}mlp.{layer}.bias"]
    return found


def googles_bit(model, prefix):
    state = {key: value.numpy() for key, value in model.state_dict().items()}

    def conv(key):
        return state[f"{key}.weight"].transpose(2, 3, 1, 0)

    found = {
        f"{prefix}root_block/standardized_conv2d/kernel": conv("stem.conv"),
        f"{prefix}group_norm/gamma": state["norm.weight"],
        f"{prefix}group_norm/beta": state["norm.bias"],
        f"{prefix}head/conv2d/kernel": conv("head.fc"),
        f"{prefix}head/conv2d/bias": state["head.fc.bias"],
    }
    for i, stage in enumerate(model.stages):
        for j, block in enumerate(stage.blocks):
            here, there = f"stages.{i}.blocks.{j}.", f"{prefix}block{i + 1}/unit{j + 1:02d}/"
            for place, letter in enumerate("abc", 1):
                found[f"{there}{letter}/standardized_conv2d/kernel"] = conv(f"{here}conv{place}")
                found[f"{there}{letter}/group_norm/gamma"] = state[f"{here}norm{place}.weight"]
                found[f"{there}{letter}/group_norm/beta"] = state[f"{here}norm{place}.bias"]
            if block.downsample is not None:
                found[f"{there}a/proj/standardized_conv2d/kernel"] = conv(f"{here}downsample.conv")
    return found


def test_arrays_for_a_model_that_cannot_read_them_are_refused(tmp_path):
    np.savez(tmp_path / "w.npz", a=np.zeros(3))
    with pytest.raises(ModelError, match=r"arrays by Google's names, which timm:test_resnet cannot read"):
        load_weights(fresh(1), NAME, read_weights(str(tmp_path / "w.npz")))
    with pytest.raises(ModelError, match=r"do not fit timm:vit_tiny_patch16_224"):
        load_weights(
            build_model("timm:vit_tiny_patch16_224", 3),
            "timm:vit_tiny_patch16_224",
            read_weights(str(tmp_path / "w.npz")),
        )


def test_arrays_that_are_pickled_objects_are_refused(tmp_path):
    np.savez(tmp_path / "w.npz", a=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ModelError, match=r"cannot be read: .*allow_pickle"):
        read_weights(str(tmp_path / "w.npz"))


class RunsWhenRead:
    def __reduce__(self):
        return os.mkdir, (os.environ["RAN"],)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("around", [lambda evil, m: evil, lambda evil, m: {"state_dict": m.state_dict(), "args": evil}])
def test_no_code_of_a_file_is_run(model, tmp_path, monkeypatch, zipped, around):
    monkeypatch.setenv("RAN", str(tmp_path / "ran"))
    torch.save(around(RunsWhenRead(), model), tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    try:
        assert same(loaded(tmp_path / "w.pth"), model)
    except ModelError as error:
        said = str(error)
        assert "whole object, which is code" in said or "unsupported GLOBAL posix.mkdir" in said
    assert not (tmp_path / "ran").exists()


def test_a_whole_model_is_refused_with_how_to_save_it(model, tmp_path):
    torch.save(model, tmp_path / "whole.pth")
    with pytest.raises(ModelError, match=r"whole object, which is code.*torch.save\(model.state_dict\(\)"):
        read_weights(str(tmp_path / "whole.pth"))


def test_weights_of_another_architecture_are_named_as_that(tmp_path):
    torch.save({"state_dict": build_model("timm:test_vit", CLASSES).state_dict()}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"of the model's \d+ tensors are missing there .*are not the model's"):
        loaded(tmp_path / "w.pth")


def test_what_is_missing_is_named_with_the_nearest_prefix(model, tmp_path):
    state = {f"net.model.{key}": value for key, value in model.state_dict().items() if key != "fc.bias"}
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"1 of the model's .* missing there \(fc.bias\).*prefix 'net.model.'"):
        loaded(tmp_path / "w.pth")


def test_other_classes_are_named_with_the_way_to_teach_them(tmp_path):
    torch.save(fresh(1, 1000).state_dict(), tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"fc.bias is \[1000\] there and \[6\].*data.labels = false.*classes = 1000"):
        loaded(tmp_path / "w.pth")


def test_no_message_has_a_terminals_codes(tmp_path):
    (tmp_path / "w.pth").write_bytes(b"no pickle")
    with pytest.raises(ModelError) as refused:
        read_weights(str(tmp_path / "w.pth"))
    assert "\x1b" not in str(refused.value)


def test_a_student_starts_from_any_form_and_makes_its_classifier_anew(tmp_path):
    source = fresh(1, 1000)
    torch.save({"model": {f"module.{k}": v for k, v in source.state_dict().items()}}, tmp_path / "w.pth")
    student = fresh(2)
    start_from(student, NAME, read_weights(str(tmp_path / "w.pth")))
    inner = [key for key in source.state_dict() if not key.startswith("fc.")]
    assert inner
    assert all(torch.equal(student.state_dict()[key], source.state_dict()[key]) for key in inner)
    assert student.fc.weight.shape == (CLASSES, source.fc.weight.shape[1])
