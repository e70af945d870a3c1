"""A student in a torch loop of one's own, from a cache of its teacher's logits; stopped, it goes on where it was saved.

python examples/plain_torch.py runs/demo/cache runs/demo/data --steps 400
torchrun --nproc-per-node 2 examples/plain_torch.py runs/demo/cache runs/demo/data --steps 400
"""

import argparse
import os
from itertools import chain, repeat
from pathlib import Path

import timm
import torch
from torchvision.transforms import Normalize

import stillroom

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("cache")
parser.add_argument("data")
parser.add_argument("--model", default="resnet18", help="timm's name")
parser.add_argument("--steps", type=int, default=400)
parser.add_argument("--batch-size", type=int, default=64, help="of all ranks together")
parser.add_argument("--temperature", type=float, default=2.0)
parser.add_argument("--out", type=Path, default=Path("plain_torch.pt"), help="checkpoint, saved every 20 steps")
args = parser.parse_args()
rank, world, local = (int(os.environ.get(*item)) for item in (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0")))
device = torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
stillroom.keep_freed_memory()  # a CPU's steps are up to half as long again without
cache = stillroom.open(args.cache)  # the first of the three lines
teacher = cache.teacher(cache.teachers[0])
ranks = {"rank": rank, "world": world, "device": local}
settings = {"teacher": teacher.name, "batch_size": args.batch_size, "size": teacher.info.size, "seed": 0}
loader = stillroom.ReplayLoader(cache, data=args.data, **settings, **ranks)  # the second
torch.manual_seed(0)
model = student = timm.create_model(args.model, num_classes=teacher.info.classes).to(device)
normalise = Normalize(model.pretrained_cfg["mean"], model.pretrained_cfg["std"])  # images are in [0, 1]
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-4)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.steps)
saved = {"model": model, "optimizer": optimizer, "schedule": schedule, "loader": loader}
if args.out.exists():
    for name, state in torch.load(args.out, map_location=device, weights_only=True).items():
        saved[name].load_state_dict(state)
if world > 1:
    torch.distributed.init_process_group()
    student = torch.nn.parallel.DistributedDataParallel(model)
batches = chain.from_iterable(repeat(loader))  # epoch after epoch
for step, batch in zip(range(schedule.last_epoch + 1, args.steps + 1), batches, strict=False):
    logits = student(normalise(batch.images.to(device)))
    losses = stillroom.kl_divergence(batch.logits.to(device), logits, args.temperature)  # the third
    optimizer.zero_grad()
    (losses.sum() * world / args.batch_size).backward()  # ranks' shares of a batch differ in size
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    schedule.step()
    if rank == 0 and (step % 20 == 0 or step == args.steps):
        print(f"step {step} loss {losses.mean().item():.4f}", flush=True)
        torch.save({name: thing.state_dict() for name, thing in saved.items()}, f"{args.out}.new")
        Path(f"{args.out}.new").replace(args.out)
