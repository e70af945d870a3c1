"""Losses, and how far two distributions are apart. Logits are float32 [n, class] throughout."""

import torch
import torch.nn.functional as F


def kl_divergence(teacher: torch.Tensor, student: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """KL(teacher ‖ student) of softened distributions, scaled by T², in nats: float32 [n].

    Source: Hinton, Vinyals, Dean, "Distilling the knowledge in a neural network", 1503.02531; the scale keeps gradients
    of one size at every temperature.
    """
    p = F.log_softmax(teacher.float() / temperature, dim=1)
    q = F.log_softmax(student.float() / temperature, dim=1)
    return (p.exp() * (p - q)).sum(dim=1) * temperature**2


def mixed_cross_entropy(
    student: torch.Tensor, labels: torch.Tensor, partner_labels: torch.Tensor, shares: torch.Tensor
) -> torch.Tensor:
    """Cross entropy against λ · label + (1 − λ) · partner's label, in nats: float32 [n]."""
    log_q = F.log_softmax(student.float(), dim=1)
    own = log_q.gather(1, labels[:, None])[:, 0]
    other = log_q.gather(1, partner_labels[:, None])[:, 0]
    return -(shares * own + (1.0 - shares) * other)


def entropy(logits: torch.Tensor) -> torch.Tensor:
    """Entropy of each distribution in nats: float32 [n]."""
    log_p = F.log_softmax(logits.float(), dim=1)
    return -(log_p.exp() * log_p).sum(dim=1)


def hits(logits: torch.Tensor, labels: torch.Tensor, top: int) -> torch.Tensor:
    """Whether each label is among the `top` largest logits: bool [n]."""
    best = logits.topk(min(top, logits.shape[1]), dim=1).indices
    return (best == labels[:, None]).any(dim=1)
