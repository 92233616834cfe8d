"""Training in several processes of one machine: each is a rank that sees its part of every batch.

Gradients are averaged before each step (Lightning's DDP, over gloo on a CPU and NCCL on GPUs), so every rank takes the
same steps to the same weights. Rank 0 is the process that was asked to train: it alone draws previews, tells an
observer and writes checkpoints.
"""

import datetime
import hashlib
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import torch
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, distributed, nn
from torch.distributed import Store, TCPStore  # type: ignore[attr-defined]
from torch.nn.modules.batchnorm import _BatchNorm

from lookalike.core.config import Trainer
from lookalike.core.errors import UserError
from lookalike.processes import Crew

R = TypeVar("R", covariant=True)

HOME = "127.0.0.1"

PATIENCE = datetime.timedelta(days=1)
"""How long ranks wait for each other: while rank 0 draws a preview, the others have nothing to do."""


class Part(Protocol[R]):
    """What a rank does of a training."""

    def __call__(self, *, rank: int) -> R: ...


class Place(LightningEnvironment):
    """Tells Lightning which rank this process is, of ranks that all run already."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.rank = rank

    @property
    def creates_processes_externally(self) -> bool:
        return True

    def local_rank(self) -> int:
        return self.rank

    def node_rank(self) -> int:
        return 0


def check(model: nn.Module, trainer: Trainer, *, batch_size: int, validation: int) -> None:
    """Raise a UserError unless a training can be divided between `trainer.devices` ranks."""
    ranks = trainer.devices
    if ranks == 1:
        return
    if batch_size % ranks:
        raise UserError(
            f"trainer.devices={ranks}: a batch of {batch_size} can't be divided into {ranks} equal parts; choose a "
            f"data.batch_size that can"
        )
    if validation < ranks:
        raise UserError(f"trainer.devices={ranks}: there are {validation} points to validate on, a rank needs one")
    if normed := [name for name, module in model.named_modules() if isinstance(module, _BatchNorm)]:
        raise UserError(
            f"trainer.devices={ranks}: {normed[0]} of {type(model).__name__} normalizes over a batch, and a rank has "
            f"only a part of it; train it with trainer.devices=1"
        )
    if on_gpu(trainer) and ranks > (gpus := torch.cuda.device_count()):
        raise UserError(f"trainer.devices={ranks}: torch sees {gpus} GPUs here")


def on_gpu(trainer: Trainer) -> bool:
    """Whether ranks train on GPUs, one each."""
    return trainer.accelerator == "gpu" or (trainer.accelerator == "auto" and torch.cuda.is_available())


def for_lightning(trainer: Trainer, rank: int) -> dict[str, Any]:
    """What Lightning's Trainer is told of where it runs."""
    if trainer.devices == 1:
        return {"accelerator": trainer.accelerator, "devices": 1}
    return {
        "accelerator": "gpu" if on_gpu(trainer) else "cpu",
        "devices": trainer.devices,
        # No family changes a buffer in a step, so none has to be sent around.
        "strategy": DDPStrategy(cluster_environment=Place(rank), broadcast_buffers=False),
        "use_distributed_sampler": False,  # batches are divided already
    }


def together(part: Part[R], other: Part[Any], model: nn.Module, trainer: Trainer) -> R:
    """Train in `trainer.devices` processes and return what rank 0 does.

    Args:
        part: of rank 0; trains `model` in place.
        other: of every other rank, the same training of a copy of `model`, which it is bound to.

    Raises:
        UserError: a rank made it, or was killed.
        RuntimeError: ranks ended with different weights.
    """
    ranks = trainer.devices
    store = TCPStore(HOME, 0, ranks, is_master=True, wait_for_workers=False)
    with Crew(Rank(other, model, trainer, port=store.port), count=ranks) as crew, crew.watched():
        for number in range(1, ranks):
            crew.receive(number)  # it is there
        with joined(0, trainer, store):
            try:
                result = part(rank=0)
            except UserError:
                raise
            except Exception as error:
                # Most likely the others are gone. They are still connected if they are not, and so have not failed.
                if (failure := crew.failure()) is not None:
                    raise failure from error
                raise
        own = digest(model)
        for number in range(1, ranks):
            if (theirs := crew.receive(number)) != own:
                raise RuntimeError(f"rank {number} ended with the weights {theirs}, rank 0 with {own}")
    return result


class Rank:
    """What a process of rank 1 or more does: says that it is there, trains, and says which weights it has."""

    def __init__(self, part: Part[Any], model: nn.Module, trainer: Trainer, *, port: int) -> None:
        self.part, self.model, self.trainer, self.port = part, model, trainer, port

    def __call__(self, rank: int) -> Iterator[str]:
        yield "here"
        with joined(rank, self.trainer, TCPStore(HOME, self.port, self.trainer.devices)):
            self.part(rank=rank)
        yield digest(self.model)


@contextmanager
def joined(rank: int, trainer: Trainer, store: Store) -> Iterator[None]:
    """Connect this process with the other ranks."""
    # Nothing listens to other machines; and Lightning would divide the cores by itself.
    loopback = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), "lo")
    os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
    os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))
    place: dict[str, Any] = {"backend": "gloo"}
    if on_gpu(trainer):
        # Losses are averaged on the CPU.
        place = {"backend": "cpu:gloo,cuda:nccl", "device_id": torch.device("cuda", rank)}
    distributed.init_process_group(store=store, rank=rank, world_size=trainer.devices, timeout=PATIENCE, **place)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def averaged(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """The mean over ranks of each number, on the CPU; the numbers themselves where there is one rank."""
    if not values or not distributed.is_initialized():
        return values
    means = torch.stack(list(values.values()))
    distributed.all_reduce(means)
    return dict(zip(values, means / distributed.get_world_size(), strict=True))


def digest(model: nn.Module) -> str:
    """SHA-256 of all weights and buffers on disk, in hexadecimal."""
    total = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        total.update(name.encode() + tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()
