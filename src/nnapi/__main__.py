"""The command `nnapi`: also `python -m nnapi`."""

from __future__ import annotations

import sys

from nnapi.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
