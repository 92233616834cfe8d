"""What MLflow runs of a registered model. It is kept with the model as code: nothing of it is pickled or unpickled."""

import warnings
from pathlib import Path
from typing import Any, cast

from mlflow.exceptions import MlflowException
from mlflow.models import ModelConfig, set_model
from mlflow.pyfunc import PythonModel, PythonModelContext

from lookalike.core.errors import UserError
from lookalike.serving import ImageAnswer, ImageRequest, Request, Served, VectorAnswer, VectorRequest


class Asked(PythonModel):
    """Answers requests; its subclasses say, by their annotations, what MLflow makes the signature of."""

    def load_context(self, context: PythonModelContext) -> None:
        self.served = Served(Path(context.artifacts["model"]))
        if not self.served.is_own_code:
            warnings.warn(
                "this process had imported another version of lookalike before, and answers with it: to be sure, load "
                "the model in a process that has not",
                stacklevel=2,
            )

    def answer(self, requests: list[Any]) -> Any:
        """Answers as dictionaries that leave out what there is nothing of.

        Raises:
            MlflowException: a request that the model can't meet: over HTTP, status 400.
        """
        try:
            return self.served.answer(cast(list[Request], requests))
        except UserError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None


class OfVectors(Asked):
    def predict(self, model_input: list[VectorRequest]) -> list[VectorAnswer]:
        return cast(list[VectorAnswer], self.answer(model_input))


class OfImages(Asked):
    def predict(self, model_input: list[ImageRequest]) -> list[ImageAnswer]:
        return cast(list[ImageAnswer], self.answer(model_input))


set_model(OfImages() if ModelConfig().get("kind") == "image" else OfVectors())
