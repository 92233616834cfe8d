"""Generative models, a family a file. What the pipeline asks of one, by duck typing:

`sample(n, **settings) -> [n, *shape]`
    Integer grid points. Every family. Random numbers come from torch's global generator.
`losses(x) -> {"loss": ..., ...}`
    The objective for a batch of grid points `[N, *shape]`, in nats or squared units, averaged. Families that are
    trained by gradient descent.
`start(x)`
    Families of these that learn something from the whole training set before the first step.
`fit(x)`
    Families that need none: `x` is the whole training set.
`log_likelihood(x, **settings) -> [N]`
    Nats an observation on the domain's integer grid, a function of each observation alone.
`likelihood_kind: Kind | None`
    What that number is; None where the family has no likelihood.
`classes: Classes | None`
    Families that can be told a class have it; it is None where `model.conditional` is false. Where it is not None,
    `losses(x, labels)` and `start(x, labels)` get class numbers `[N]`, `sample(n, labels, **settings)` takes class
    numbers `[n]`, int64, or draws them by their shares without any, and `log_likelihood(x)` is still of x alone,
    log Σ_c p(c) p(x | c).
`kernels() -> [parameter, ...]`
    Families with a choice of their own of what `optimizer.muon` turns: matrices and convolutions' kernels `[outputs,
    inputs, ...]`, or stacks of matrices `[n, inputs, outputs]`. Of others it is kernels between hidden layers.
`check(section)`
    Families whose settings depend on each other raise a UserError where these don't go together.

A constructor takes the `domain` and what stands under `model:` in `conf/model/<family>.yaml`; `settings` are what
stands under `sampling:` and `likelihood:` there.
"""

from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from lookalike.core.likelihood import Kind


@runtime_checkable
class Generative(Protocol):
    """Every family."""

    likelihood_kind: Kind | None

    def sample(self, n: int, **settings: Any) -> Tensor: ...


@runtime_checkable
class Trainable(Protocol):
    """Families with one objective."""

    def losses(self, x: Tensor) -> dict[str, Tensor]: ...


@runtime_checkable
class Startable(Protocol):
    """Families that learn something before the first step."""

    def start(self, *data: Tensor) -> None: ...


@runtime_checkable
class Fitted(Protocol):
    """Families that need no gradient descent."""

    def fit(self, x: Tensor) -> None: ...
