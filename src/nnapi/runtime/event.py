"""NNAPI's event: the end of an execution that runs on its own."""

from __future__ import annotations


class Event:
    """Signaled when an execution has ended."""

    def wait(self) -> None:
        """Wait for the end of the execution; raises what it failed with."""
        raise NotImplementedError

    def get_sync_fence_fd(self) -> int:
        """There are no sync fences here: always BAD_DATA."""
        raise NotImplementedError

    @classmethod
    def from_sync_fence_fd(cls, fd: int) -> Event:
        """There are no sync fences here: always BAD_DATA."""
        raise NotImplementedError
