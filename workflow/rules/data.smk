"""Text and labelled items, one parquet per dataset, language and split.

Inputs: the user's files, or the settings of the embedded world. Outputs: data/.
"""

WORLD_DATASETS = [name for name, dataset in CONFIG.datasets.items() if dataset.world]
FILE_DATASETS = [
    name for name in [*CONFIG.datasets, OWN_TEXT] if name not in WORLD_DATASETS
]


rule data:
    """Read one split of one language from the user's file."""
    output:
        data=made("data"),
        manifest=made("data") + ".json",
    log:
        out=log_of("data"),
        cost=cost_of("data"),
    benchmark:
        benchmark_of("data")
    wildcard_constraints:
        dataset="|".join(FILE_DATASETS),
    priority: 100  # what is wrong with the data shows before anything is trained
    conda:
        ENVIRONMENT
    params:
        cfg=reads("data"),
        file=user_file,
    shell:
        "python -m deftx data --params {params.cfg:q} --file {params.file:q} --cost {log.cost:q} --out {output.data:q} "
        "> {log.out:q} 2>&1"


rule world:
    """Make one split of one language of the embedded world."""
    output:
        data=made("world"),
        manifest=made("world") + ".json",
    log:
        out=log_of("world"),
        cost=cost_of("world"),
    benchmark:
        benchmark_of("world")
    wildcard_constraints:
        dataset="|".join(WORLD_DATASETS) or "no-dataset-of-the-world",
    priority: 100
    conda:
        ENVIRONMENT
    params:
        cfg=reads("world"),
    shell:
        "python -m deftx world --params {params.cfg:q} --cost {log.cost:q} --out {output.data:q} > {log.out:q} 2>&1"
