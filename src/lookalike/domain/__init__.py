"""Descriptions of one observation: domains, variables, the integer grid, and one file per kind of data."""
