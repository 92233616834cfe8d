"""Sweeps: many configurations trained, sampled and scored on validation data, trial by trial."""
