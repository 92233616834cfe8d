"""Networks by role: a family asks for a role, and the kind of data decides which network plays it.

A role is called with the domain, the sizes of the networks (`model.sizes` of the configuration, for the kind of the
domain), and what the family decides itself, such as the number of outputs. A new kind of data adds its builders here.
"""

import dataclasses
import typing
from collections.abc import Callable
from typing import Any

from lookalike.domain.domain import Domain
from lookalike.networks import image, table
from lookalike.workspace.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Role:
    """The purpose of a network, and the function per kind of data that builds one.

    Attributes:
        name: the role's name, for messages.
        by_kind: builders `(domain, size, **given) -> network`; the annotation of `size` is a TypedDict of its keys.
    """

    name: str
    by_kind: dict[str, Callable[..., Any]]

    def __call__(self, domain: Domain, size: dict[str, Any], **given: Any) -> Any:
        """Build the network that plays the role for a domain."""
        return self.builder(domain.kind)(domain, size, **given)

    def builder(self, kind: str) -> Callable[..., Any]:
        """Return the builder for a kind of data.

        Raises:
            UserError: no network plays this role for that kind.
        """
        if kind not in self.by_kind:
            raise UserError(f"no {self.name} network for data of kind {kind}: there are those for {list(self.by_kind)}")
        return self.by_kind[kind]

    def size_keys(self, kind: str) -> dict[str, Any]:
        """Return the keys of `size` that the builder for a kind of data reads, with their types."""
        size_type = typing.get_type_hints(self.builder(kind), include_extras=True)["size"]
        return typing.get_type_hints(size_type, include_extras=True)


encoder = Role(name="encoder", by_kind={"image": image.encoder, "table": table.encoder})
"""`(outputs, classes=0)`: a module from working units `[N, *shape]` and classes to codes `[N, outputs]`."""

decoder = Role(name="decoder", by_kind={"image": image.decoder, "table": table.decoder})
"""`(inputs, components)`: a distribution given codes `[N, inputs]`: `start(x)`, `log_prob(x, code)`, `sample(code)`."""

generator = Role(name="generator", by_kind={"image": image.generator, "table": table.generator})
"""`(inputs)`: a module from codes `[N, inputs]` to working units `[N, *shape]`."""

denoiser = Role(name="denoiser", by_kind={"image": image.denoiser, "table": table.denoiser})
"""`(outputs)`: a module from noisy points and times to `outputs` numbers per place; `embedding` and `ends`."""

causal = Role(name="causal", by_kind={"image": image.causal, "table": table.causal})
"""`(classes)`: an autoregressive model: `start(x)`, `log_probs(x, one_hot)`, `sample(n, one_hot)`, `muon_weights()`."""

flow = Role(name="flow", by_kind={"image": image.flow, "table": table.flow})
"""`()`: an invertible map: `start(x)`, `log_prob(x, u)` of dequantized grid points, `sample(n)`."""

mixture = Role(name="mixture", by_kind={"image": image.mixture, "table": table.mixture})
"""`()`: a mixture of normal distributions: `fit(x)`, `log_likelihood(x, draws)`, `sample(n)`."""
