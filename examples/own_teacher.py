"""Fill a cache with a teacher of one's own, here an ensemble; its [[teacher]] table has model = "python:ensemble".

python examples/own_teacher.py CONFIG --models test_resnet test_vit --classes 10 --weights ensemble.safetensors
"""

import argparse

import safetensors.torch
import timm
import torch

import stillroom

parser = argparse.ArgumentParser()
parser.add_argument("config")
parser.add_argument("--models", nargs="+", default=["resnet50", "convnext_tiny"])
parser.add_argument("--classes", type=int, required=True)
parser.add_argument("--weights", required=True)
args = parser.parse_args()


class Ensemble(torch.nn.ModuleList):
    def forward(self, images):
        return torch.stack([model(images).log_softmax(dim=1) for model in self]).mean(dim=0)


ensemble = Ensemble(timm.create_model(name, num_classes=args.classes) for name in args.models)
safetensors.torch.load_model(ensemble, args.weights)
imagenet = stillroom.Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
cache = stillroom.teacher(args.config, "ensemble", ensemble.eval(), version="mean-log-p 1", preprocessing=imagenet)
print(f"{cache.teacher('ensemble').views} views of {args.classes} classes in {cache.place}")
