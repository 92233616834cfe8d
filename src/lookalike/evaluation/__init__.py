"""Scores of a trained model: likelihoods, distances, novelty, and comparison with a known density."""
