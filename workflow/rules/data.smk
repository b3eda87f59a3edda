"""Text and labelled items, one parquet per dataset, language and split.

Inputs: the user's files, or the settings of the embedded world. Outputs: data/.
"""

WORLD_DATASETS = [name for name, dataset in CONFIG.datasets.items() if dataset.world]
FILE_DATASETS = [name for name in [*CONFIG.datasets, OWN_TEXT] if name not in WORLD_DATASETS]


def user_file(wildcards, threads):
    """The file to read.

    A param that takes `threads` is derived and triggers no rerun: a file that moves is the same
    file, and its checksum is in `cfg`. As an input, its path and time would count.
    """
    return str(PLAN.file(Artefact.of("data", **dict(wildcards.items()))))


rule data:
    """Read one split of one language from the user's file."""
    output:
        data=made("data"),
        manifest=made("data") + ".json",
    wildcard_constraints:
        dataset="|".join(FILE_DATASETS),
    params:
        cfg=reads("data"),
        file=user_file,
    log:
        log_of("data"),
    benchmark:
        benchmark_of("data")
    conda:
        ENVIRONMENT
    priority: 100  # what is wrong with the data shows before anything is trained
    shell:
        "python -m deftx data --params {params.cfg:q} --file {params.file:q} --out {output.data:q} "
        "> {log:q} 2>&1"


rule world:
    """Make one split of one language of the embedded world."""
    output:
        data=made("world"),
        manifest=made("world") + ".json",
    wildcard_constraints:
        dataset="|".join(WORLD_DATASETS) or "no-dataset-of-the-world",
    params:
        cfg=reads("world"),
    log:
        log_of("world"),
    benchmark:
        benchmark_of("world")
    conda:
        ENVIRONMENT
    priority: 100
    shell:
        "python -m deftx world --params {params.cfg:q} --out {output.data:q} > {log:q} 2>&1"
