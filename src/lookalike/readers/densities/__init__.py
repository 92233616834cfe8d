"""Data sets that are drawn from densities known in closed form, one file per density."""
