"""What MLflow runs of a registered model. It is kept with the model as code: nothing is pickled or unpickled.

The classes of requests and answers are defined here for MLflow, which derives the model's signature from them.
"""

import warnings
from pathlib import Path
from typing import Any, cast

import pydantic
from mlflow.exceptions import MlflowException
from mlflow.models import ModelConfig, set_model
from mlflow.pyfunc import PythonModel, PythonModelContext

from lookalike.tracking.serving import Request, Served
from lookalike.workspace.arguments import explain_validation
from lookalike.workspace.errors import UserError

AXES: int = ModelConfig().get("axes")
"""Number of axes of one observation."""

Array: Any = float
"""Nested lists of observations `[N, *shape]`."""
for _ in range(AXES + 1):
    Array = list[Array]


class ArrayRequest(Request):
    """A request with data `[N, *shape]`, whose mistakes are explained in one line."""

    data: Array | None = None

    @pydantic.model_validator(mode="wrap")
    @classmethod
    def explain(cls, value: Any, check: pydantic.ModelWrapValidatorHandler["ArrayRequest"]) -> "ArrayRequest":
        try:
            return check(value)
        except pydantic.ValidationError as error:
            problem = explain_validation(error, value, prefix="", known=list(cls.model_fields))
            raise MlflowException.invalid_parameter_value(problem) from None


class Answer(pydantic.BaseModel):
    """Samples `[N, *shape]` with their seed and classes, or the log-likelihoods of data; other fields are omitted."""

    samples: Array | None = None
    seed: int | None = None
    labels: list[str] | None = None
    log_likelihood: list[float] | None = None
    bits_per_dim: list[float] | None = None
    kind: str | None = None
    unit: str | None = None


class Model(PythonModel):
    """Answer requests with a registered model."""

    def load_context(self, context: PythonModelContext) -> None:
        """Open the files of the model."""
        self.served = Served(Path(context.artifacts["model"]))
        if not self.served.is_own_code:
            warnings.warn(
                "this process imported another version of lookalike before and answers with it: load the model in a "
                "new process to use its own code",
                stacklevel=2,
            )

    def predict(self, model_input: list[ArrayRequest]) -> list[Answer]:
        """Return one answer per request, as dictionaries; empty fields are omitted.

        Raises:
            MlflowException: the model cannot answer a request; over HTTP, status 400.
        """
        try:
            return cast(list[Answer], self.served.answer(model_input))
        except UserError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None


set_model(Model())
