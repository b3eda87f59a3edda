"""Seconds and bytes in readable units."""


def duration(seconds: float) -> str:
    """Two units at most: `0.4 s`, `38 s`, `12 min 5 s`, `3 h 20 min`, `2 d 4 h`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if (whole := round(seconds)) < 60:
        return f"{whole} s"
    if whole < 3_600:
        return f"{whole // 60} min {whole % 60} s"
    if (minutes := round(seconds / 60)) < 1_440:
        return f"{minutes // 60} h {minutes % 60} min"
    hours = round(seconds / 3_600)
    return f"{hours // 24} d {hours % 24} h"


def size(count: float) -> str:
    """Decimal units, two digits or three: `0 B`, `740 kB`, `1.2 GB`."""
    unit = 0
    while round(count, 1 if count < 9.95 else 0) >= 1000:
        count, unit = count / 1000, unit + 1
    digits = 1 if unit and count < 9.95 else 0
    return f"{count:.{digits}f} {('B', 'kB', 'MB', 'GB', 'TB', 'PB')[unit]}"
