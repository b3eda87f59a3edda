"""Independent streams of randomness from one seed."""

import hashlib


def stream(seed: int, *names: str) -> int:
    """A seed below 2**31 for the use that `names` describe: a different one for every use and seed,
    so that an extra draw in one place changes no other."""
    text = "/".join([str(seed), *names])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little") % 2**31
