"""The device of this process, and its place among the processes of its stage."""

from typing import TYPE_CHECKING, NamedTuple

from lookalike.workspace.configuration import Trainer
from lookalike.workspace.errors import UserError

if TYPE_CHECKING:  # A stage imports torch only after it has checked its inputs.
    import torch


class Place(NamedTuple):
    """The place of a process among those that share the work of a stage.

    Attributes:
        rank: number of the process, from 0; the first one writes files, records the run and prints.
        size: number of processes.
        local_rank: number of the process among those of its machine, which is also the number of its GPU.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0


_place = Place()


def place() -> Place:
    """Return the place of this process; a process that shares nothing is the first of one."""
    return _place


def take_place(new: Place) -> None:
    """Set the place of this process; `processes.joined` calls this."""
    global _place
    _place = new


def device_of(trainer: Trainer) -> "torch.device":
    """Return the device that `trainer.accelerator` asks for: the one that a stage puts its models and data on.

    `gpu` and `auto` mean the GPU with the local number of this process; `auto` means the CPU where there is no GPU.

    Raises:
        UserError: torch sees no GPU, or fewer than there are processes on this machine.
    """
    import torch

    count = torch.cuda.device_count() if trainer.accelerator != "cpu" else 0
    if count == 0 and trainer.accelerator == "gpu":
        raise UserError("trainer.accelerator=gpu: torch sees no GPU here; choose trainer=cpu")
    if count == 0:
        return torch.device("cpu")
    if place().local_rank >= count:
        raise UserError(f"trainer.devices={trainer.devices}: torch sees {count} GPUs here; every process needs its own")
    return torch.device("cuda", place().local_rank)


def device_in_use(model: "torch.nn.Module") -> "torch.device":
    """Return the device of a model's weights; the CPU for a model without any."""
    import torch

    tensors = [*model.parameters(), *model.buffers()]
    return tensors[0].device if tensors else torch.device("cpu")
