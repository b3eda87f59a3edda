"""DeFT-X: from text of low-resource languages and labelled data of a high-resource one to a table
of zero-shot transfer. `config.yaml` says what to run; `--configfile` replaces it wholly.
"""

from snakemake.utils import min_version

min_version("9.27")

# Not merged: a key that another config does not have would be filled in from this one.
if not workflow.overwrite_configfiles:

    configfile: workflow.source_path("config.yaml")


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/base.smk"
include: "workflow/rules/vectors.smk"
include: "workflow/rules/families.smk"
include: "workflow/rules/transfer.smk"
include: "workflow/rules/results.smk"


report: "workflow/report/workflow.rst"


# Every stage's artefacts and not the tables alone: else a stage that failed after a change of the
# config would leave old tables that pass as up to date.
rule all:
    """Make everything that the config asks for."""
    default_target: True
    input:
        everything,


rule downloads:
    """Download what the config needs: data, and the base if it is a hub model."""
    input:
        downloads,
