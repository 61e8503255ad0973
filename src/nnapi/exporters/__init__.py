"""Models in other tools' formats."""
