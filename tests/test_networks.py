"""Tests of networks and solvers: any shape works, all input is used, a known equation is solved."""

import math
import typing
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lookalike.domain.domain import Domain
from lookalike.networks.blocks import halvings
from lookalike.networks.conv import Decoder, Encoder, as_pixels
from lookalike.networks.embeddings import FourierTime
from lookalike.networks.mlp import MLP, TimeMLP
from lookalike.networks.pixels import has_ink
from lookalike.networks.unet import UNet
from lookalike.paths.ode import FIXED, Solver, check_solver, integrate
from lookalike.workspace.errors import UserError

SHAPES = [(1, 6, 6), (1, 5, 7), (3, 7, 4), (2, 1, 9)]
SOLVERS = typing.get_args(Solver)
ADAPTIVE = [solver for solver in SOLVERS if solver not in FIXED]
CPU = torch.device("cpu")


def unet(shape: tuple[int, int, int], *, out_channels: int = 2, widths: tuple[int, ...] = (16, 24)) -> UNet:
    torch.manual_seed(0)
    return UNet(shape=shape, out_channels=out_channels, widths=list(widths), depth=1, hidden=16).eval()


@pytest.mark.parametrize("shape", SHAPES)
def test_a_unet_keeps_height_and_width(shape: tuple[int, int, int]) -> None:
    out = unet(shape)(torch.randn(4, *shape), torch.rand(4))
    assert out.shape == (4, 2, *shape[1:])
    assert out.isfinite().all()


@pytest.mark.parametrize("shape", SHAPES)
def test_every_pixel_of_a_unet_sees_every_pixel_and_the_time(shape: tuple[int, int, int]) -> None:
    network = unet(shape)
    x = torch.randn(1, *shape, requires_grad=True)
    t = torch.tensor([0.3], requires_grad=True)
    for pixel in network(x, t)[0, 0].flatten():
        to_x, to_t = torch.autograd.grad(pixel, (x, t), retain_graph=True)
        assert (to_x != 0).all()
        assert to_t != 0


@pytest.mark.parametrize("shape", SHAPES)
def test_rows_of_a_batch_do_not_see_each_other(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    x, t = torch.randn(5, *shape), torch.rand(5)
    encoder = Encoder(shape=shape, widths=[16, 24], depth=1, features=6)
    decoder = Decoder(features=6, shape=shape, outputs=12, widths=[16, 24], depth=1)
    network = unet(shape)
    calls: list[Callable[[slice], Tensor]] = [
        lambda rows: network(x[rows], t[rows]),
        lambda rows: encoder(x[rows]),
        lambda rows: decoder(encoder(x[rows])),
    ]
    for call in calls:
        torch.testing.assert_close(call(slice(2, 4)), call(slice(None))[2:4], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_an_encoder_reads_all_pixels_and_a_decoder_writes_all(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    x = torch.randn(1, *shape, requires_grad=True)
    code = Encoder(shape=shape, widths=[16, 24], depth=1, features=6)(x)
    assert code.shape == (1, 6)
    assert (torch.autograd.grad(code.sum(), x)[0] != 0).all()
    decoder = Decoder(features=6, shape=shape, outputs=12, widths=[16, 24], depth=1)
    z = torch.randn(1, 6, requires_grad=True)
    image = as_pixels(decoder(z), *shape[1:])
    assert image.shape == (1, 3, *shape[1:])
    for pixel in image[0, 0].flatten():
        assert torch.autograd.grad(pixel, z, retain_graph=True)[0].abs().sum() > 0


@pytest.mark.parametrize("widths", [(8,), (8, 16), (8, 16, 16), (8, 8, 8, 8, 8)])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 13, 17), (1, 1, 1)])
def test_networks_of_images_have_any_number_of_resolutions(
    shape: tuple[int, int, int], widths: tuple[int, ...]
) -> None:
    sizes = halvings(*shape[1:], len(widths))
    assert sizes[-1] == (-(-shape[1] // 2 ** len(widths)), -(-shape[2] // 2 ** len(widths)))
    x = torch.randn(2, *shape)
    assert unet(shape, widths=widths)(x, torch.rand(2)).shape == (2, 2, *shape[1:])
    code = Encoder(shape=shape, widths=list(widths), depth=1, features=6)(x)
    assert code.shape == (2, 6)
    blocks = Decoder(features=6, shape=shape, outputs=12, widths=list(widths), depth=1)(code)
    assert blocks.shape == (2, 12, *sizes[0])
    assert as_pixels(blocks, *shape[1:]).shape == (2, 3, *shape[1:])


@pytest.mark.parametrize(("setting", "at_ends", "ink"), [
    (True, 0.0, True), (False, 0.9, False), (None, 0.05, False), (None, 0.1, True), (None, 0.9, True),
])  # fmt: skip
def test_ink_is_what_the_setting_says_or_else_learned_from_the_ends_of_the_grid(
    setting: bool | None, at_ends: float, ink: bool, make_domain: Callable[..., Domain]
) -> None:
    assert has_ink(make_domain(1, 4, 4, levels=8, at_ends=at_ends), setting) is ink


def test_a_perceptron_is_linear_layers_with_silu_between() -> None:
    torch.manual_seed(0)
    network = MLP(inputs=3, hidden=[8, 5], outputs=2)
    a, b, c = (layer for layer in network if isinstance(layer, nn.Linear))
    x = torch.randn(4, 3)
    h = x @ a.weight.T + a.bias
    h = (h * torch.sigmoid(h)) @ b.weight.T + b.bias
    h = (h * torch.sigmoid(h)) @ c.weight.T + c.bias
    torch.testing.assert_close(network(x), h)


def test_a_function_of_rows_changes_with_the_row_and_the_time() -> None:
    torch.manual_seed(0)
    network = TimeMLP(inputs=3, outputs=7, hidden=[8, 8])
    y = torch.randn(1, 3).expand(50, -1)
    out = network(y, torch.linspace(0, 1, 50))
    assert out.shape == (50, 7)
    assert (out.diff(dim=0).abs().sum(dim=1) > 0).all()
    jacobian = torch.autograd.functional.jacobian(lambda y: network(y[None], torch.ones(1))[0], y[0])
    assert (jacobian != 0).all()


def test_different_times_have_different_embeddings() -> None:
    torch.manual_seed(0)
    embed = FourierTime(width=16)
    times = torch.linspace(0, 1, 201)
    distances = torch.cdist(*[embed(times)] * 2) + torch.eye(201)
    assert distances.min() > 1e-3
    torch.testing.assert_close(embed(times[3:4]), embed(times)[3:4])


def solve(solver: str, *, steps: int | None, tolerance: float | None, reverse: bool) -> float:
    """Return the relative error in y' = (1 + t) y, whose solution is y(0) exp(t + t² / 2)."""
    start = torch.tensor([[1.0, -2.0], [0.5, 3.0]], dtype=torch.float64)
    growth = math.exp(-1.5 if reverse else 1.5)
    end = integrate(
        lambda t, y: (1 + t) * y, start, solver=typing.cast(Any, solver), steps=steps, tolerance=tolerance, device=CPU,
        reverse=reverse,
    )  # fmt: skip
    return float((end / (start * growth) - 1).abs().max())


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("midpoint", 2), ("heun2", 2), ("heun3", 3), ("rk4", 4)])
def test_a_fixed_step_solver_converges_at_its_order(solver: str, order: int, reverse: bool) -> None:
    coarse, fine = (solve(solver, steps=steps, tolerance=None, reverse=reverse) for steps in (15, 30))
    assert fine > 1e-8, "times in single precision would hide the order"
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.35)


def test_every_fixed_step_solver_has_its_order_tested() -> None:
    assert set(FIXED) == {"euler", "midpoint", "heun2", "heun3", "rk4"}
    assert set(FIXED) < set(SOLVERS)


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("solver", ADAPTIVE)
def test_an_adaptive_solver_keeps_to_its_tolerance(solver: str, reverse: bool) -> None:
    errors = [solve(solver, steps=None, tolerance=tolerance, reverse=reverse) for tolerance in (1e-3, 1e-6)]
    assert errors[0] < 1e-2
    assert errors[1] < 1e-5


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("solver", [*FIXED, *ADAPTIVE])
def test_a_field_is_evaluated_between_the_times_0_and_1_only(solver: str, reverse: bool) -> None:
    """Networks are trained for no other times."""
    times = []

    def field(t: Tensor, y: Tensor) -> Tensor:
        times.append(float(t))
        return (1 + t) * y

    settings: Any = {"steps": 7, "tolerance": None} if solver in FIXED else {"steps": None, "tolerance": 1e-3}
    integrate(field, torch.ones(2), solver=typing.cast(Any, solver), **settings, device=CPU, reverse=reverse)
    assert min(times) >= -1e-6
    assert max(times) <= 1 + 1e-6


@pytest.mark.parametrize("solver", ["rk4", "dopri5"])
def test_states_of_several_tensors_are_carried_together(solver: str) -> None:
    """y' = y and q' = y: q(1) - q(0) = y(1) - y(0)."""
    y0, q0 = torch.rand(3, 2), torch.zeros(3, 2)
    settings: Any = {"steps": 30, "tolerance": None} if solver in FIXED else {"steps": None, "tolerance": 1e-6}
    y, q = integrate(lambda t, s: (s[0], s[0]), (y0, q0), solver=typing.cast(Any, solver), **settings, device=CPU)
    torch.testing.assert_close(y, y0 * math.e, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(q, y - y0, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(("steps", "tolerance"), [(None, None), (10, 1e-3), (10, None), (None, 1e-3)])
def test_a_solver_takes_the_one_setting_that_it_needs(solver: Any, steps: int | None, tolerance: float | None) -> None:
    wanted = (10, None) if solver in FIXED else (None, 1e-3)
    if (steps, tolerance) == wanted:
        check_solver(solver, steps=steps, tolerance=tolerance)
        return
    needs = "takes steps and no tolerance" if solver in FIXED else "takes a tolerance and no steps"
    with pytest.raises(UserError, match=f"solver={solver}, steps={steps}, tolerance={tolerance}: it {needs}"):
        check_solver(solver, steps=steps, tolerance=tolerance)
