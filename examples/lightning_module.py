"""A student in Lightning's Trainer, from a cache of its teacher's logits. Its checkpoints hold the loader's place too.

python examples/lightning_module.py runs/demo/cache runs/demo/data --steps 400   (pip install 'stillroom[examples]')
"""

import argparse
from pathlib import Path

import lightning
import timm
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torchvision.transforms import Normalize

import stillroom


class Student(lightning.LightningModule):
    """Any model, taught by the first teacher of a cache."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__()
        self.options = options
        self.cache = stillroom.open(options.cache)  # the first of the three lines
        self.teacher = self.cache.teacher(self.cache.teachers[0])
        self.model = timm.create_model(options.model, num_classes=self.teacher.info.classes)
        self.normalise = Normalize(self.model.pretrained_cfg["mean"], self.model.pretrained_cfg["std"])

    def train_dataloader(self) -> stillroom.ReplayLoader:
        ranks = {"rank": self.trainer.global_rank, "world": self.trainer.world_size}
        settings = {"teacher": self.teacher.name, "batch_size": self.options.batch_size, "seed": 0}
        return stillroom.ReplayLoader(  # the second
            self.cache, data=self.options.data, size=self.teacher.info.size, **settings, **ranks
        )

    def training_step(self, batch: stillroom.Batch, number: int) -> torch.Tensor:  # noqa: ARG002
        logits = self.model(self.normalise(batch.images))  # images are in [0, 1]
        losses = stillroom.kl_divergence(batch.logits, logits, self.options.temperature)  # the third
        self.log("loss", losses.mean(), prog_bar=True, batch_size=len(batch))
        return losses.sum() * self.trainer.world_size / self.options.batch_size  # ranks' shares differ in size

    def configure_optimizers(self) -> dict[str, object]:
        optimizer = torch.optim.AdamW(self.parameters(), lr=2e-3, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.options.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("cache")
parser.add_argument("data")
defaults = {"model": "resnet18", "steps": 400, "batch-size": 64, "temperature": 2.0, "out": "lightning_module"}
for name, value in defaults.items():
    parser.add_argument(f"--{name}", type=type(value), default=value)
args = parser.parse_args()
lightning.seed_everything(0)
keep = ModelCheckpoint(args.out, every_n_train_steps=20, save_last=True)
trainer = lightning.Trainer(max_steps=args.steps, gradient_clip_val=1.0, callbacks=[keep], default_root_dir=args.out)
last = Path(args.out, "last.ckpt")
trainer.fit(Student(args), ckpt_path=str(last) if last.exists() else None, weights_only=True)
