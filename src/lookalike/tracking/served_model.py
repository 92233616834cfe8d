"""What MLflow runs of a registered model. It is kept with the model as code: nothing of it is pickled or unpickled.

What a request and an answer hold is said here for MLflow, which makes the model's signature of it.
"""

import warnings
from pathlib import Path
from typing import Any, cast

import pydantic
from mlflow.exceptions import MlflowException
from mlflow.models import ModelConfig, set_model
from mlflow.pyfunc import PythonModel, PythonModelContext

from lookalike.core.config import explain_validation
from lookalike.core.errors import UserError
from lookalike.serving import Request, Served


class Explained(Request):
    """A request whose mistakes are told in one line."""

    @pydantic.model_validator(mode="wrap")
    @classmethod
    def explain(cls, value: Any, check: pydantic.ModelWrapValidatorHandler["Explained"]) -> "Explained":
        try:
            return check(value)
        except pydantic.ValidationError as error:
            problem = explain_validation(error, value, prefix="", known=list(cls.model_fields))
            raise MlflowException.invalid_parameter_value(problem) from None


class VectorRequest(Explained):
    """Data are `[N, D]`."""

    data: list[list[float]] | None = None


class ImageRequest(Explained):
    """Data are `[N, C, H, W]`."""

    data: list[list[list[list[int]]]] | None = None


class Answer(pydantic.BaseModel):
    """Of samples their seed, and their classes if the model was told any; of data, what is said of them here."""

    seed: int | None = None
    labels: list[str] | None = None
    log_likelihood: list[float] | None = None
    bits_per_dim: list[float] | None = None
    kind: str | None = None
    unit: str | None = None


class VectorAnswer(Answer):
    """Samples are `[N, D]`."""

    samples: list[list[float]] | None = None


class ImageAnswer(Answer):
    """Samples are `[N, C, H, W]`."""

    samples: list[list[list[list[int]]]] | None = None


class Asked(PythonModel):
    """Answers requests; its subclasses differ in what MLflow makes the signature of."""

    def load_context(self, context: PythonModelContext) -> None:
        self.served = Served(Path(context.artifacts["model"]))
        if not self.served.is_own_code:
            warnings.warn(
                "this process had imported another version of lookalike before, and answers with it: to be sure, load "
                "the model in a process that has not",
                stacklevel=2,
            )

    def answer(self, requests: Any) -> Any:
        """Answers as dictionaries, without what there is nothing of.

        Raises:
            MlflowException: a request that the model can't meet: over HTTP, status 400.
        """
        try:
            return self.served.answer(requests)
        except UserError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None


class OfVectors(Asked):
    def predict(self, model_input: list[VectorRequest]) -> list[VectorAnswer]:
        return cast(list[VectorAnswer], self.answer(model_input))


class OfImages(Asked):
    def predict(self, model_input: list[ImageRequest]) -> list[ImageAnswer]:
        return cast(list[ImageAnswer], self.answer(model_input))


set_model(OfImages() if ModelConfig().get("kind") == "image" else OfVectors())
