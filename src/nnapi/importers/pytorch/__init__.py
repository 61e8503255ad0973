"""PyTorch modules and exported programs: read.py is the entry, and one file per operator family maps ATen to NNAPI."""

from nnapi.errors import MissingExtra

try:
    import torch as _torch  # noqa: F401
except ModuleNotFoundError as error:
    raise MissingExtra("reading a PyTorch model", extra="torch") from error
