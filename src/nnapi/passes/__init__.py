"""Passes: pure functions Model -> Model, one per file; run.py runs them, default.py lists the usual ones."""
