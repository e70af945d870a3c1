"""One small checkpoint of each form that people have, made by the library that makes such ones."""

import argparse
import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

State = dict[str, torch.Tensor]
ARGUMENTS = argparse.Namespace(model="test_resnet", lr=0.1, output=Path("out"), mean=(0.5,), resume=None)


def other(model: nn.Module) -> nn.Module:
    """The same model with other weights."""
    found = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.add_(0.5)
    return found


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    """One that has taken a step, so that its state holds tensors too."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    return optimizer


def of_timm(model: nn.Module, folder: Path) -> Path:
    """By timm's CheckpointSaver, with its script's arguments, and a metric as numpy has it."""
    return _saved_by_timm(model, folder, None)


def of_timm_with_ema(model: nn.Module, folder: Path) -> Path:
    """The same with averaged weights, which are the model's; the others are not."""
    from timm.utils import ModelEmaV3

    return _saved_by_timm(other(model), folder, ModelEmaV3(model))


def _saved_by_timm(model: nn.Module, folder: Path, ema: nn.Module | None) -> Path:
    from timm.utils import CheckpointSaver

    saver = CheckpointSaver(model, optimizer_of(model), args=ARGUMENTS, model_ema=ema, checkpoint_dir=str(folder))
    saver.save_checkpoint(3, metric=np.float64(77.5))
    return folder / "last.pth.tar"


def of_torchvision(model: nn.Module, folder: Path) -> Path:
    """As torchvision's reference scripts save, by `utils.save_on_master`."""
    optimizer = optimizer_of(model)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=30)
    checkpoint = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": scheduler.state_dict(),
        "epoch": 3,
        "args": ARGUMENTS,
        "scaler": torch.amp.GradScaler("cpu").state_dict(),
    }
    torch.save(checkpoint, folder / "model_3.pth")
    return folder / "model_3.pth"


def of_torchvision_with_ema(model: nn.Module, folder: Path) -> Path:
    """The same with its ExponentialMovingAverage, an AveragedModel: its names begin with "module."."""
    average = torch.optim.swa_utils.AveragedModel(model, use_buffers=True)
    checkpoint = {"model": other(model).state_dict(), "model_ema": average.state_dict(), "epoch": 3, "args": ARGUMENTS}
    torch.save(checkpoint, folder / "model_ema.pth")
    return folder / "model_ema.pth"


def of_ddp(model: nn.Module, folder: Path) -> Path:
    """The state dict of a model within DistributedDataParallel."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        state = nn.parallel.DistributedDataParallel(model).state_dict()
    finally:
        torch.distributed.destroy_process_group()
    torch.save(state, folder / "ddp.pth")
    return folder / "ddp.pth"


def of_compile(model: nn.Module, folder: Path) -> Path:
    """The state dict of a compiled model."""
    torch.save({"model_state_dict": torch.compile(model).state_dict()}, folder / "compiled.pt")
    return folder / "compiled.pt"


def of_compiled_parts(model: nn.Module, folder: Path) -> Path:
    """Of a model whose parts were compiled one by one: "_orig_mod." stands within the names."""
    parts = copy.deepcopy(model)
    for name, part in list(parts.named_children()):
        setattr(parts, name, torch.compile(part))
    torch.save(parts.state_dict(), folder / "parts.pt")
    return folder / "parts.pt"


def of_lightning(model: nn.Module, folder: Path) -> Path:
    """By Lightning's Trainer, of a module that holds the model, hyperparameters, and a loss with weights of its own."""
    import lightning

    class Classifier(lightning.LightningModule):
        def __init__(self, lr: float) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.net = model
            self.criterion = nn.CrossEntropyLoss(weight=torch.ones(3))

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=self.hparams["lr"])

    trainer = lightning.Trainer(logger=False, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.strategy.connect(Classifier(0.1))
    trainer.save_checkpoint(folder / "epoch=3.ckpt")
    return folder / "epoch=3.ckpt"


def of_transformers(model: nn.Module, folder: Path) -> Path:
    """As transformers' TimmWrapper names tensors, in its older format."""
    torch.save(
        {f"timm_model.{name}": value for name, value in model.state_dict().items()}, folder / "pytorch_model.bin"
    )
    return folder / "pytorch_model.bin"


FORMS: dict[str, Callable[[nn.Module, Path], Path]] = {
    "timm": of_timm,
    "timm-ema": of_timm_with_ema,
    "torchvision": of_torchvision,
    "torchvision-ema": of_torchvision_with_ema,
    "ddp": of_ddp,
    "compile": of_compile,
    "compiled-parts": of_compiled_parts,
    "lightning": of_lightning,
    "transformers": of_transformers,
}


def vit_npz(model: nn.Module, path: Path) -> None:
    """A ViT of timm as Google's JAX code saves it."""
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    heads = model.blocks[0].attn.num_heads
    found = {
        "cls": state["cls_token"],
        "embedding/kernel": state["patch_embed.proj.weight"].transpose(2, 3, 1, 0),
        "embedding/bias": state["patch_embed.proj.bias"],
        "Transformer/posembed_input/pos_embedding": state["pos_embed"],
        "Transformer/encoder_norm/scale": state["norm.weight"],
        "Transformer/encoder_norm/bias": state["norm.bias"],
        "head/kernel": state["head.weight"].T,
        "head/bias": state["head.bias"],
    }
    for number in range(len(model.blocks)):
        theirs, ours = f"Transformer/encoderblock_{number}/", f"blocks.{number}."
        width = state[f"{ours}attn.proj.weight"].shape[0]
        for norm, name in (("LayerNorm_0", "norm1"), ("LayerNorm_2", "norm2")):
            found[f"{theirs}{norm}/scale"], found[f"{theirs}{norm}/bias"] = (
                state[f"{ours}{name}.{what}"] for what in ("weight", "bias")
            )
        attention = f"{theirs}MultiHeadDotProductAttention_1/"
        weights = np.split(state[f"{ours}attn.qkv.weight"], 3)
        biases = np.split(state[f"{ours}attn.qkv.bias"], 3)
        for name, weight, bias in zip(("query", "key", "value"), weights, biases, strict=True):
            found[f"{attention}{name}/kernel"] = weight.T.reshape(width, heads, -1)
            found[f"{attention}{name}/bias"] = bias.reshape(heads, -1)
        found[f"{attention}out/kernel"] = state[f"{ours}attn.proj.weight"].T.reshape(heads, -1, width)
        found[f"{attention}out/bias"] = state[f"{ours}attn.proj.bias"]
        for layer in (0, 1):
            found[f"{theirs}MlpBlock_3/Dense_{layer}/kernel"] = state[f"{ours}mlp.fc{layer + 1}.weight"].T
            found[f"{theirs}MlpBlock_3/Dense_{layer}/bias"] = state[f"{ours}mlp.fc{layer + 1}.bias"]
    np.savez(path, **found)


def bit_npz(model: nn.Module, path: Path) -> None:
    """A BiT of timm as Google's TensorFlow code saves it."""

    def kernel(weight: torch.Tensor) -> np.ndarray:
        return weight.detach().numpy().transpose(2, 3, 1, 0)

    found = {
        "resnet/root_block/standardized_conv2d/kernel": kernel(model.stem.conv.weight),
        "resnet/group_norm/gamma": model.norm.weight.detach().numpy(),
        "resnet/group_norm/beta": model.norm.bias.detach().numpy(),
        "resnet/head/conv2d/kernel": kernel(model.head.fc.weight),
        "resnet/head/conv2d/bias": model.head.fc.bias.detach().numpy(),
    }
    for i, stage in enumerate(model.stages, 1):
        for j, block in enumerate(stage.blocks, 1):
            unit = f"resnet/block{i}/unit{j:02d}/"
            for place, letter in enumerate("abc", 1):
                norm = getattr(block, f"norm{place}")
                found[f"{unit}{letter}/standardized_conv2d/kernel"] = kernel(getattr(block, f"conv{place}").weight)
                found[f"{unit}{letter}/group_norm/gamma"] = norm.weight.detach().numpy()
                found[f"{unit}{letter}/group_norm/beta"] = norm.bias.detach().numpy()
            if block.downsample is not None:
                found[f"{unit}a/proj/standardized_conv2d/kernel"] = kernel(block.downsample.conv.weight)
    np.savez(path, **found)
