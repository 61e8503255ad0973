"""Measure sessions, and keep what was measured as records."""
