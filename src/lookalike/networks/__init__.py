"""Neural network parts, by role and kind of data."""
