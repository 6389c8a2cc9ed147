"""Numbers and moments as people and as JSON take them."""

import json
import math
from datetime import datetime


def plain(value: float) -> float | str | None:
    """A number as JSON has it, by the rule of manifests: NaN is null, an infinite one is `"Infinity"` or its opposite.

    Example:
        >>> plain(1.5), plain(float("nan")), plain(float("-inf"))
        (1.5, None, '-Infinity')
    """
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else "Infinity" if value > 0 else "-Infinity"


def short(value: float) -> str:
    """A number in four digits."""
    return f"{value:.4g}"


def size(count: int) -> str:
    """Bytes in the unit that fits.

    Example:
        >>> size(900), size(17_073), size(3 << 30)
        ('900 B', '16.7 KiB', '3.0 GiB')
    """
    amount, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while amount >= 1024 and len(units) > 1:
        amount /= 1024
        del units[0]
    return f"{count} B" if units[0] == "B" else f"{amount:.1f} {units[0]}"


def moment(when: datetime | None) -> str:
    """A moment in UTC, to the second."""
    return "" if when is None else f"{when:%Y-%m-%d %H:%M:%S}"


def several(count: int, one: str) -> str:
    """A count of things.

    Example:
        >>> several(1, "file"), several(2, "file")
        ('1 file', '2 files')
    """
    return f"{count} {one}{'' if count == 1 else 's'}"


def print_json(document: object) -> None:
    """Print the one document that `--json` asks for."""
    print(json.dumps(document, indent=2, allow_nan=False))
