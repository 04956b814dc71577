"""The preconditionings of EDM's code: the arguments of the parametrization `edm` for each class.

References: Karras et al. 2022, arXiv:2206.00364, table 1; Nichol and Dhariwal 2021,
arXiv:2102.09672 (iDDPM).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

# The class: its name in `parametrizations.edm`, and which attributes are arguments of it.
PRECONDITIONINGS: dict[str, tuple[str, dict[str, str]]] = {
    "EDMPrecond": ("edm", {"sigma_data": "sigma_data"}),
    "VPPrecond": ("vp", {"beta_d": "beta_d", "beta_min": "beta_min", "levels": "M"}),
    "VEPrecond": ("ve", {}),
    "iDDPMPrecond": ("iddpm", {}),
}
# The buffer of iDDPMPrecond with its noise levels.
TABLE = "u"
MAX_LEVELS = 20_000


def settings(name: str, state: Mapping[str, object], table: object) -> dict[str, Any]:
    """The arguments of `parametrizations.edm` from an object of EDM's code.

    Args:
        name: The class, a key of `PRECONDITIONINGS`.
        state: The attributes.
        table: The buffer `TABLE`, of iDDPMPrecond.

    Raises:
        LookupError, TypeError, ValueError: An attribute is missing or not valid.
    """
    kind, names = PRECONDITIONINGS[name]
    result: dict[str, Any] = {"preconditioning": kind}
    for argument, attribute in names.items():
        value = number(state[attribute])
        result[argument] = int(value) if argument == "levels" else value
    if kind == "iddpm":
        result["noise_levels"] = noise_levels(table)
    return result


def noise_levels(table: object) -> list[float]:
    """The noise levels, rising, from the falling table of iDDPMPrecond, whose last entry is 0.

    Raises:
        TypeError, ValueError: It is no such table.
    """
    if not isinstance(table, Tensor) or not table.is_floating_point():
        raise TypeError("no table of noise levels")
    if table.dim() != 1 or not 3 <= len(table) <= MAX_LEVELS + 1 or table[-1] != 0:
        raise ValueError("a table of noise levels that is not valid")
    rising: list[float] = table[:-1].flip(0).tolist()
    return rising


def iddpm_levels(levels: int = 1000, smallest: float = 0.001, offset: float = 0.008) -> list[float]:
    """The noise levels, rising, that iDDPMPrecond computes from its arguments M, C_1 and C_2.

    u_(j - 1)^2 = (u_j^2 + 1) / max(a_(j - 1) / a_j, C_1) - 1,  a_j = sin(pi j / (2 M (1 + C_2)))^2

    EDM's code computes them in float32; the smallest are up to 5e-4 of their size off there.
    """

    def alpha_bar(j: int) -> float:
        return math.sin(math.pi / 2 * j / levels / (offset + 1)) ** 2

    table = torch.zeros(levels + 1, dtype=torch.float64)
    for j in range(levels, 0, -1):
        ratio = max(alpha_bar(j - 1) / alpha_bar(j), smallest)
        table[j - 1] = math.sqrt((float(table[j]) ** 2 + 1) / ratio - 1)
    return noise_levels(table)


def number(value: object) -> float:
    """An attribute that is a number."""
    if type(value) is not float and type(value) is not int:
        raise TypeError(f"a {type(value).__name__} in the place of a number")
    return float(value)
