"""The tiny config of the tests, and copies of it with changes."""

import copy

import yaml
from conftest import PROJECT

TINY = yaml.safe_load((PROJECT / "tests/config/tiny.yaml").read_text())


def with_key(path, value, raw=TINY):
    """A copy with one key, `a/b/c`, set to a value; ... removes the key."""
    raw = copy.deepcopy(raw)
    *folders, last = path.split("/")
    here = raw
    for part in folders:
        here = here[part]
    if value is ...:
        del here[last]
    else:
        here[last] = value
    return raw


def with_change(change):
    """A copy that `change(raw)` has edited."""
    raw = copy.deepcopy(TINY)
    change(raw)
    return raw
