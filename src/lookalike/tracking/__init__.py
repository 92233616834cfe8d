"""MLflow and W&B as views of the result files, a model registry, and a server for registered models."""
