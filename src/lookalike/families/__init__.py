"""Generative models, one file per family; `contract.py` says what the pipeline expects of each."""
