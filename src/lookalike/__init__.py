"""Lookalike: train several families of generative models on one data set and measure how close each came to it."""
