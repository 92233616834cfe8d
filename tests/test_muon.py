"""Tests of Muon: orthogonal steps, which weights take them, and that AdamW updates the others unchanged."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lookalike.networks.blocks import kernels_between_equals
from lookalike.training.budget import operations_per_step
from lookalike.training.optimizer import MOMENTUM, Muon, groups, orthogonalized
from lookalike.workspace.configuration import Optimizer

SETTINGS = Optimizer(lr=0.01, weight_decay=0.1, warmup=0.1, clip=1.0, ema_horizon=0.0, beta1=0.9, muon=2.0)


class Net(nn.Module):
    """A first layer, two hidden ones and a last."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 8, 3, padding=1), nn.SiLU(),
            nn.Conv2d(8, 8, 1), nn.SiLU(), nn.Conv2d(8, 1, 3, padding=1),
        )  # fmt: skip

    def muon_weights(self) -> list[nn.Parameter]:
        return kernels_between_equals(self)

    def losses(self, x: Tensor) -> dict[str, Tensor]:
        return {"loss": (self.layers(x) - x.flip(-1)).square().mean()}


def trained(optimizer: torch.optim.Optimizer, net: Net, steps: int) -> list[float]:
    x = torch.randn(32, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = net.losses(x)["loss"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def make(seed: int = 0) -> Net:
    torch.manual_seed(seed)
    return Net()


@pytest.mark.parametrize("shape", [(12, 40), (40, 12), (16, 16), (3, 12, 40)])
def test_a_step_has_the_singular_vectors_of_the_momentum_and_values_near_one(shape: tuple[int, ...]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    core = left.mT @ orthogonalized(matrix) @ right.mT
    values = torch.diagonal(core, dim1=-2, dim2=-1)
    torch.testing.assert_close(core, torch.diag_embed(values), atol=1e-4, rtol=0)
    assert values.min() > 0.3
    assert values.max() < 1.3


class Choosing(nn.Module):
    """A model that names its weights with orthogonal steps: a matrix and a stack of matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 12)
        self.stack: Any = nn.Parameter(torch.randn(3, 12, 5))
        self.conv = nn.Conv2d(4, 4, 3)

    def muon_weights(self) -> list[nn.Parameter]:
        return [self.first.weight, self.stack]


def test_a_model_chooses_the_weights_with_orthogonal_steps() -> None:
    model = Choosing()
    stretched = [group for group in groups(model, SETTINGS) if group["stretch"]]
    assert [{id(p) for p in group["params"]} for group in stretched] == [{id(model.first.weight), id(model.stack)}]
    assert not [g for g in groups(model, SETTINGS.model_copy(update={"muon": 0.0})) if g["stretch"]]


def test_every_matrix_of_a_stack_takes_its_own_step() -> None:
    together, alone = Choosing(), [nn.Parameter(torch.randn(12, 5)) for _ in range(3)]
    with torch.no_grad():
        for part, own in zip(together.stack, alone, strict=True):
            own.copy_(part)
    group = {"weight_decay": 0.1, "stretch": 2.0}
    optimizers = [Muon([group | {"params": params}], lr=0.01) for params in ([together.stack], alone)]
    for step in range(3):
        gradient = torch.randn(3, 12, 5, generator=torch.Generator().manual_seed(step))
        together.stack.grad = gradient
        for own, part in zip(alone, gradient, strict=True):
            own.grad = part.clone()
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(together.stack, torch.stack(list(alone)))


def test_hidden_kernels_alone_take_orthogonal_steps() -> None:
    net = make()
    (hidden,) = kernels_between_equals(net)
    assert hidden is net.layers[2].weight
    stretched = [group for group in groups(net, SETTINGS) if group["stretch"]]
    assert [len(group["params"]) for group in stretched] == [1]
    assert stretched[0]["stretch"] == 2.0
    assert not [g for g in groups(net, SETTINGS.model_copy(update={"muon": 0.0})) if g["stretch"]]
    everything = [p for group in groups(net, SETTINGS) for p in group["params"]]
    assert {id(p) for p in everything} == {id(p) for p in net.parameters()}
    assert len(everything) == len(list(net.parameters()))


def test_the_first_step_is_as_the_formula_says() -> None:
    net = make()
    weight: Any = net.layers[2].weight
    before = weight.detach().clone()
    optimizer = Muon(groups(net, SETTINGS), lr=SETTINGS.lr)
    trained(optimizer, net, 1)
    ahead = weight.grad * (1 - MOMENTUM + MOMENTUM * (1 - MOMENTUM))
    step = orthogonalized(ahead.movedim(1, -1).flatten(1)).view(8, 3, 3, 8).movedim(-1, 1)
    decayed = before * (1 - SETTINGS.lr * SETTINGS.weight_decay)
    torch.testing.assert_close(weight.detach(), decayed - SETTINGS.lr * 2.0 * 0.2 * math.sqrt(72) * step)


def test_channels_last_changes_nothing_but_the_order_in_memory() -> None:
    plain, last = make(), make().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for net in (plain, last):
        trained(Muon(groups(net, SETTINGS), lr=0.01), net, 5)
    for a, b in zip(plain.parameters(), last.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("fused", [False, True])
def test_without_orthogonal_steps_it_is_adamw(fused: bool) -> None:
    settings = SETTINGS.model_copy(update={"muon": 0.0})
    ours, theirs = make(), make()
    trained(Muon(groups(ours, settings), lr=0.01, fused=fused), ours, 5)
    adam = [{k: v for k, v in group.items() if k != "stretch"} for group in groups(theirs, settings)]
    trained(torch.optim.AdamW(adam, lr=0.01, fused=fused), theirs, 5)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_it_goes_on_from_what_it_saved() -> None:
    whole, first, second = make(), make(), make()
    trained(Muon(groups(whole, SETTINGS), lr=0.01), whole, 6)
    optimizer = Muon(groups(first, SETTINGS), lr=0.01)
    trained(optimizer, first, 3)
    second.load_state_dict(first.state_dict())
    resumed = Muon(groups(second, SETTINGS), lr=0.01)
    resumed.load_state_dict(optimizer.state_dict())
    trained(resumed, second, 3)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), second.parameters(), strict=True))


def test_what_it_multiplies_is_part_of_what_a_step_costs() -> None:
    net, x = make(), torch.randn(4, 1, 6, 6)
    with_adam = operations_per_step(net, (x,), SETTINGS.model_copy(update={"muon": 0.0}))
    assert with_adam == operations_per_step(net, (x,))
    # Five rounds of the gram matrix, its square and the product, of 8 x 72.
    assert operations_per_step(net, (x,), SETTINGS) - with_adam == 5 * 2 * (8 * 8 * 72 + 8**3 + 8 * 8 * 72)


def test_it_learns() -> None:
    net = make()
    losses = trained(Muon(groups(net, SETTINGS), lr=0.02), net, 60)
    assert losses[-1] < 0.5 * losses[0]
