"""What a problem asks of torch: the loss of raw outputs, and the score of an ensemble of them.

Raw outputs are [N, members, K]. Members learn each by themselves and answer together, as the mean
of what they say (Gorishniy et al., "TabM", 2024, section 3.3: the mean loss, not the loss of the
mean).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, log_softmax

TINY = 1e-7
"""A probability is held so far from 0 and 1 before its logit is taken: float32 has no more."""


@dataclass(frozen=True)
class Objective:
    """One problem's part of the network."""

    loss: Callable[[Tensor, Tensor], Tensor]
    """The loss [N] of raw outputs [N, members, K] against labels [N]."""
    join: Callable[[Tensor], Tensor]
    """The scores [N, K] of all members together."""


def _binary_loss(raw: Tensor, labels: Tensor) -> Tensor:
    logits = raw[..., 0]
    wanted = labels[:, None].expand_as(logits)
    return binary_cross_entropy_with_logits(logits, wanted, reduction="none").mean(dim=1)


def _binary_join(raw: Tensor) -> Tensor:
    if raw.shape[1] == 1:
        return raw[:, 0]
    said = torch.sigmoid(raw).mean(dim=1).clamp(TINY, 1 - TINY)
    return torch.log(said) - torch.log1p(-said)


def _multiclass_loss(raw: Tensor, labels: Tensor) -> Tensor:
    rows, members, classes = raw.shape
    wanted = labels.long()[:, None].expand(rows, members).reshape(-1)
    each = cross_entropy(raw.reshape(-1, classes), wanted, reduction="none")
    return each.reshape(rows, members).mean(dim=1)


def _multiclass_join(raw: Tensor) -> Tensor:
    if raw.shape[1] == 1:
        return raw[:, 0]
    said = torch.exp(log_softmax(raw, dim=2)).mean(dim=1)
    return torch.log(said.clamp(min=TINY))


def _number_loss(raw: Tensor, labels: Tensor) -> Tensor:
    return ((raw[..., 0] - labels[:, None]) ** 2).mean(dim=1)


def _number_join(raw: Tensor) -> Tensor:
    return raw.mean(dim=1)


OBJECTIVES = {
    "binary": Objective(_binary_loss, _binary_join),
    "multiclass": Objective(_multiclass_loss, _multiclass_join),
    "regression": Objective(_number_loss, _number_join),
}
"""By the problem's name."""
