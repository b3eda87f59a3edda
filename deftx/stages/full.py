"""Stage `full`: fine-tune everything, once for all methods."""

from pathlib import Path

from deftx.artefact import read_manifest
from deftx.backbone import backbone_parameters, head_parameters
from deftx.base import Base
from deftx.full_training import fit_everything
from deftx.target import TargetParams, prepare
from deftx.tensor_file import save_tensors


class Params(TargetParams):
    """What is trained and how."""


def full(
    params: Params,
    *,
    base: Path,
    train: Path,
    valid: Path | None = None,
    start_vector: Path | None = None,
    out: Path,
) -> None:
    """θ1: all weights after fine-tuning, LayerNorm frozen, and the head under `head.`

    Source: the first phase of LT-SFT (Ansell et al. 2022, section 3). Raises as `prepare` and
    `fit` do.
    """
    encoder = Base.load(base)
    ready = prepare(params, "full", encoder, train, valid, start_vector)
    outcome = fit_everything(ready.model, ready.objective, params.training, **ready.seeds)
    tensors = {n: p.detach() for n, p in backbone_parameters(ready.model).items()}
    tensors |= {f"head.{n}": p.detach() for n, p in head_parameters(ready.model).items()}
    save_tensors(
        out,
        tensors,
        stage="full",
        target=params.target,
        start=params.start,
        seed=params.seed,
        base=encoder.identity,
        params=params.model_dump(),
        inputs={
            name: read_manifest(path)["sha256"]
            for name, path in (("train", train), ("valid", valid), ("start", start_vector))
            if path is not None
        },
        outcome=outcome,
    )
