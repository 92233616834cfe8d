"""The features in which observations are compared, one file per extractor."""
