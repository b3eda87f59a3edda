"""The base class of every settings model: unknown keys are errors, values never change."""

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, model_validator

S = TypeVar("S", bound="Strict")


class Strict(BaseModel):
    """A frozen pydantic model that refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def absent(value: object) -> bool:
    """Whether an optional setting is not given. With `exclude_if=absent` a field that was added
    later leaves the parameters of all artefacts that do not use it as they were."""
    return value is None


def exactly_one(*names: str) -> Any:
    """A validator of a model that raises ValueError unless exactly one of these fields is given."""

    def check(settings: S) -> S:
        given = [name for name in names if getattr(settings, name) is not None]
        if len(given) != 1:
            expected, found = ", ".join(names), ", ".join(given) or "none"
            raise ValueError(f"give exactly one of {expected}; given: {found}")
        return settings

    return model_validator(mode="after")(check)
