"""A student with timm's optimisers, schedules, averaged weights and checkpoints, from a cache of its teacher's logits.

python examples/timm_trainer.py runs/demo/cache runs/demo/data --opt lamb --lr 5e-3
"""

import argparse
from itertools import chain, repeat
from pathlib import Path

import torch
from timm.models import create_model, load_checkpoint, resume_checkpoint
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import AverageMeter, CheckpointSaver, ModelEmaV3, accuracy, dispatch_clip_grad, load_checkpoint_metadata
from torchvision.transforms import Normalize

import stillroom

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("cache")
parser.add_argument("data")
defaults = {"model": "resnet18", "steps": 400, "batch-size": 64, "temperature": 2.0, "opt": "adamw", "lr": 2e-3}
for name, value in {**defaults, "out": "timm_trainer"}.items():
    parser.add_argument(f"--{name}", type=type(value), default=value)
args = parser.parse_args()
device = "cuda" if torch.cuda.is_available() else "cpu"
stillroom.keep_freed_memory()  # a CPU's steps are up to half as long again without
cache = stillroom.open(args.cache)  # the first of the three lines
teacher = cache.teacher(cache.teachers[0])
settings = {"teacher": teacher.name, "batch_size": args.batch_size, "size": teacher.info.size, "seed": 0}
loader = stillroom.ReplayLoader(cache, data=args.data, **settings)  # the second
torch.manual_seed(0)
model = create_model(args.model, num_classes=teacher.info.classes).to(device)
normalise = Normalize(model.pretrained_cfg["mean"], model.pretrained_cfg["std"])  # images are in [0, 1]
optimizer = create_optimizer_v2(model, opt=args.opt, lr=args.lr, weight_decay=1e-4)
schedule, _ = create_scheduler_v2(optimizer, num_epochs=args.steps, updates_per_epoch=1, step_on_epochs=False)
ema = ModelEmaV3(model, decay=0.999, use_warmup=True)
saver = CheckpointSaver(model, optimizer, args, ema, checkpoint_dir=args.out, max_history=1)
Path(args.out).mkdir(parents=True, exist_ok=True)
done, last = 0, f"{args.out}/last.pth.tar"
if Path(last).exists():
    done = resume_checkpoint(model, last, optimizer) - 1  # timm counts epochs, from 0; here it is steps that are done
    load_checkpoint(ema.module, last, use_ema=True)
    loader.load_state_dict(load_checkpoint_metadata(last)["args"].loader)
mean_loss = AverageMeter()
for step, batch in zip(range(done + 1, args.steps + 1), chain.from_iterable(repeat(loader)), strict=False):
    schedule.step_update(step - 1)
    logits, answers = model(normalise(batch.images.to(device))), batch.logits.to(device)
    loss = stillroom.kl_divergence(answers, logits, args.temperature).mean()  # the third
    optimizer.zero_grad()
    loss.backward()
    dispatch_clip_grad(model.parameters(), 1.0)
    optimizer.step()
    ema.update(model, step=step)
    mean_loss.update(loss.item(), len(batch))
    if step % 20 == 0 or step == args.steps:
        print(f"step {step} loss {mean_loss.avg:.4f} alike {accuracy(logits, answers.argmax(1))[0].item():.0f} %")
        args.loader = loader.state_dict()  # the saver keeps args
        saver.save_checkpoint(step)
