"""Draw samples from a trained model, and files of samples."""
