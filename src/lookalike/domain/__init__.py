"""What an observation is: domains, variables, the integer grid, and one file per kind of data."""
