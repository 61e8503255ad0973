"""Quantization: observe, decide, apply, and what it costs in accuracy."""
