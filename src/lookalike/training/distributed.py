"""What training in several processes adds to Lightning: checks, Lightning's settings, averages over processes.

Every rank sees its part of every batch, and Lightning's DDP averages the gradients before each step (over gloo on CPUs,
NCCL on GPUs). All ranks therefore take the same steps. Rank 0 draws previews, reports losses and writes checkpoints.
"""

import hashlib
from typing import Any

import torch
from pytorch_lightning.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lookalike.training.checkpoints import WholeFiles
from lookalike.workspace.configuration import Trainer
from lookalike.workspace.devices import device_of, place
from lookalike.workspace.errors import UserError


def ranks_of(trainer: Trainer) -> int:
    """Return the number of processes that train."""
    return trainer.devices * trainer.nodes


def check_divisible(model: nn.Module, trainer: Trainer, *, batch_size: int, validation: int) -> None:
    """Raise a UserError unless a training can be divided among the processes."""
    ranks = ranks_of(trainer)
    if ranks == 1:
        return
    assert ranks == place().size, "a stage starts its processes with `spread`"
    setting = f"trainer.devices={trainer.devices}" + (f" trainer.nodes={trainer.nodes}" if trainer.nodes > 1 else "")
    if batch_size % ranks:
        raise UserError(
            f"{setting}: a batch of {batch_size} cannot be divided into {ranks} equal parts; choose a data.batch_size "
            f"that is a multiple of {ranks}"
        )
    if validation < ranks:
        raise UserError(f"{setting}: there are {validation} points to validate on, but every process needs one")
    if norms := [name for name, module in model.named_modules() if isinstance(module, _BatchNorm)]:
        raise UserError(
            f"{setting}: {norms[0]} of {type(model).__name__} normalizes over a batch, but a process has only a part "
            f"of it; train it with trainer.devices=1"
        )


def for_lightning(trainer: Trainer) -> dict[str, Any]:
    """Return the arguments of Lightning's Trainer that say where it runs.

    The environment is always explicit. Lightning otherwise looks for Slurm's variables, refuses a training of one
    process in a job of several tasks, and on SIGUSR1 writes a checkpoint of its own in the middle of a step.
    """
    device = device_of(trainer)
    accelerator = "gpu" if device.type == "cuda" else "cpu"
    if ranks_of(trainer) == 1:
        devices: Any = [device.index] if device.type == "cuda" else 1
        return {"accelerator": accelerator, "devices": devices, "plugins": [LightningEnvironment(), WholeFiles()]}
    return {
        "accelerator": accelerator,
        "devices": trainer.devices,
        "num_nodes": trainer.nodes,
        # No family changes a buffer in a step, so buffers need no broadcast.
        "strategy": DDPStrategy(cluster_environment=TorchElasticEnvironment(), broadcast_buffers=False),
        "plugins": [WholeFiles()],
        "use_distributed_sampler": False,  # `Batches` divides the batches.
    }


def averaged(values: dict[str, Tensor], *, ranks: int) -> dict[str, Tensor]:
    """Return the mean of each number, a CPU tensor, over the processes that train."""
    if ranks == 1 or not values:
        return values
    means = torch.stack(list(values.values()))
    distributed.all_reduce(means)
    return dict(zip(values, means / ranks, strict=True))


def check_same_weights(model: nn.Module, *, ranks: int) -> None:
    """Raise a RuntimeError unless all processes ended with the same weights and buffers."""
    if ranks == 1:
        return
    digests: list[Any] = [None] * ranks
    distributed.all_gather_object(digests, digest(model))
    for rank, found in enumerate(digests):
        if found != digests[0]:
            raise RuntimeError(f"rank {rank} ended with the weights {found}, rank 0 with {digests[0]}")


def digest(model: nn.Module) -> str:
    """Return the SHA-256 of all weights and persistent buffers in hexadecimal."""
    total = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        total.update(name.encode() + tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()
