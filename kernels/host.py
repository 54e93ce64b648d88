"""What the backends on this machine's processor share: where numbers live, and how much room there is."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

from lrpref.kernels.elementwise import FUNCTIONS
from lrpref.kernels.operations import Array, Operation

UNKNOWN = 1 << 62
"""Bytes of free memory where the system does not say: more than there can be."""


class Host:
    """The part of the function table that says where numbers live: here, as they are."""

    def upload(self, x: Array) -> Array:
        """Bring an array to where the backend computes."""
        return x

    def download(self, x: Array) -> Array:
        """Bring an array back to the host."""
        return x

    def prepare(self, op: Operation, w: Array) -> Any:
        """Lay out the weights as this backend wants them; done once for each set of weights."""
        return w

    def activation(self, name: str, x: Array, *parameters: Any) -> Array:
        """Apply a function of `elementwise.FUNCTIONS`, element by element."""
        return FUNCTIONS[name][0](x, *parameters)

    def device_name(self) -> str:
        """Say where it computes."""
        return f"cpu {platform.machine()}"

    def free_memory(self) -> int:
        """Tell how many bytes are free."""
        try:
            lines = Path("/proc/meminfo").read_text().splitlines()
            return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
        except (OSError, StopIteration, ValueError):
            return UNKNOWN
