"""What observations are compared in: one file per feature extractor."""
