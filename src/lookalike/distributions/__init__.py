"""Probability distributions on the grid and per-position statistics that families share."""
