"""The contract of a generative model with the pipeline: one abstract class."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from torch import Tensor, nn

from lookalike.distributions.classes import Classes
from lookalike.domain.domain import Domain
from lookalike.domain.grid import LikelihoodKind
from lookalike.networks.blocks import kernels_between_equals
from lookalike.networks.roles import Role


class Family(nn.Module, ABC):
    """A family of generative models, built for one domain.

    A family either is trained by gradient descent and defines `losses`, or is fitted in one call and defines `fit`.
    The arguments of its constructor are `domain` and the settings below `model:` in `conf/model/<family>.yaml`. Among
    these, `sizes` has the sizes of its networks, whose keys follow from `needs` (see `lookalike.networks.roles`). The
    settings of `sample` and `log_likelihood` stand below `sampling:` and `likelihood:`.

    Attributes:
        domain: what one observation is.
        classes: how often each class occurs, for a conditional model; None otherwise.
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"image", "table"})
    """Kinds of data that the family can model."""
    needs: ClassVar[tuple[Role, ...]] = ()
    """Networks that the family asks for: they decide which keys `sizes` has."""
    likelihood_kind: ClassVar[LikelihoodKind | None] = None
    """Kind of the number that `log_likelihood` returns; None for a family without a likelihood."""
    is_floor: ClassVar[bool] = False
    """True for a floor: a family that others must beat, and that takes no part in contests."""
    is_fitted: ClassVar[bool] = False
    """True if `fit` replaces training by gradient descent."""

    def __init__(self, *, domain: Domain, conditional: bool = False) -> None:
        super().__init__()
        self.domain = domain
        self.classes = Classes(domain) if conditional else None

    @property
    def class_count(self) -> int:
        """Number of classes of a conditional model; 0 otherwise."""
        return 0 if self.classes is None else self.classes.count

    def start(self, x: Tensor, labels: Tensor | None = None) -> None:
        """Learn what needs no gradient from the training set, before the first step; by default how common classes are.

        Args:
            x: grid points `[N, *shape]`.
            labels: class numbers `[N]` for a conditional model.
        """
        if self.classes is not None and labels is not None:
            self.classes.start(labels)

    def losses(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Return the objective `loss` of a batch of grid points `[N, *shape]`, averaged, and its named parts."""
        raise NotImplementedError(f"{type(self).__name__} is fitted")

    def fit(self, x: Tensor) -> None:
        """Fit the model to the whole training set `[N, *shape]`."""
        raise NotImplementedError(f"{type(self).__name__} is trained by gradient descent")

    @abstractmethod
    def sample(self, *args: Any, **settings: Any) -> Tensor:
        """Draw grid points `[n, *shape]`, int64, with torch's global generator: `sample(n, labels=None, **settings)`.

        Args:
            args: the number of samples n, and for a conditional model class numbers `[n]`, which it draws itself
                without.
            settings: the section `sampling`.
        """

    def log_likelihood(self, *args: Any, **settings: Any) -> Tensor:
        """Return log-likelihoods in nats `[N]` of grid points: `log_likelihood(x, **settings)` with x `[N, *shape]`.

        The result is a function of each observation alone. Of a conditional model it is log Σ_c p(c) p(x | c).
        """
        raise NotImplementedError(f"{type(self).__name__} has no likelihood")

    def coarser(self, settings: dict[str, Any]) -> dict[str, Any] | None:
        """Return likelihood settings with coarser numerical steps, to see what steps change; None without steps."""
        return None

    def check_section(self, section: dict[str, Any]) -> None:
        """Raise a UserError if settings of `preview`, `sampling` or `likelihood` contradict each other."""

    def muon_weights(self) -> list[nn.Parameter]:
        """Return the weights that take orthogonal steps: by default kernels between layers of equal width."""
        return kernels_between_equals(self)
