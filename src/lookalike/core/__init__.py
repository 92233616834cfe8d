"""What every stage is built on: configuration, the grid and likelihoods on it, files, errors, the command line."""
