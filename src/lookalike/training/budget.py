"""Translate a budget of floating-point operations into training steps."""

import copy

import torch
from torch import nn

from lookalike.training.batches import Batch
from lookalike.training.operations import Operations
from lookalike.training.optimizer import Muon, groups
from lookalike.workspace.configuration import Config, Optimizer
from lookalike.workspace.devices import device_in_use


def steps_for(cost: float, config: Config) -> int:
    """Return the number of steps of `cost` operations each that `data.flops` and `budget.scale` allow.

    At scale 1 it is at most `data.steps`: very small networks spend their time on other things than operations.
    """
    return max(1, round(min(config.data.flops / max(cost, 1), config.data.steps) * config.budget.scale))


def operations_per_step(model: nn.Module, batch: Batch, optimizer: Optimizer | None = None) -> int:
    """Return the floating-point operations of one training step: forward pass, backward pass and optimizer.

    Args:
        model: has `losses(*batch)`; it stays as it is.
        batch: as large as the batches of the training.
        optimizer: settings; None leaves the optimizer out.
    """
    twin, counter = copy.deepcopy(model), Operations()
    batch = tuple(tensor.to(device_in_use(model)) for tensor in batch)
    with torch.random.fork_rng(), counter:
        twin.losses(*batch)["loss"].backward()  # type: ignore[operator]
        if optimizer is not None:
            Muon(groups(twin, optimizer), lr=0.0).step()
    return counter.total
