"""The README of a vector: what it is, how it was made, and how to load it."""

from collections.abc import Mapping
from typing import Any

import yaml


def model_card(provenance: Mapping[str, Any], k: int) -> str:
    """Markdown with front matter for one vector, from its provenance."""
    params, base = provenance["params"], provenance["base"]
    kind, _, name = provenance["target"].partition("-")
    what = "task" if kind == "task" else "language"
    front = {
        "library_name": "deftx",
        "base_model": base["id"],
        "tags": ["sparse-fine-tuning", provenance["method"], what],
        **({"language": name} if what == "language" else {}),
    }
    training = {k: v for k, v in (params["task"] or params["language"]).items() if v is not None}
    if params["learning_rate"] is not None:
        training["learning_rate"] = params["learning_rate"]
    if not params["retrain"]:
        training = {"re-training": "none: these are the entries of the full difference itself"}
    rows = "\n".join(f"| {key.replace('_', ' ')} | {value} |" for key, value in training.items())
    best = provenance["outcome"].get("best", {})
    held_out = "".join(
        f"Best held-out {name.replace('_', ' ')}: {value:.4f}, at step "
        f"{provenance['outcome']['best_step']}.\n"
        for name, value in best.items()
    )
    return f"""---
{yaml.safe_dump(front, sort_keys=True).strip()}
---

# {what.capitalize()} vector `{name}` by {provenance["method"]}

A sparse difference of {k:,} weights from {_start(provenance)}, seed {provenance["seed"]}.
Add it to the base, together with a {"language" if what == "task" else "task"} vector:

```python
import deftx

vector = deftx.SparseDelta.load("path/to/this/folder")
with (vector + other).applied(model):
    ...
```

Base: `{base["id"]}`, revision {base["revision"]}, hash of the backbone `{base["hash"]}`.

| setting | value |
|---|---|
{rows}

{held_out}"""


def _start(provenance: Mapping[str, Any]) -> str:
    if provenance["start"] == "base":
        return "the base"
    return f"the base plus the source language's vector by {provenance['start']}"
