"""Put the workflow into the wheel, so that `deftx run` finds it there (deftx/run/workflow.py)."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

INSIDE = "deftx/workflow"
FILES = (
    *("Snakefile", "config.yaml", "data.lock", "environment.yml"),
    *("workflow", "profiles", "docs/results/published"),
)


class WorkflowInWheel(BuildHookInterface):
    """Adds the files of the workflow to a wheel. An editable install finds them in the clone."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it builds `version`, `standard` or `editable`."""
        if version == "standard":
            build_data["force_include"] |= {name: f"{INSIDE}/{name}" for name in FILES}
