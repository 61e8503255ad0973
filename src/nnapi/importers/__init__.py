"""From a trained model, in whatever format, to NNAPI operations."""
