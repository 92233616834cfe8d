"""Work on the stale cells of the pipeline with a Hydra launcher: `lookalike cells`."""
