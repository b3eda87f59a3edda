"""Text and labelled items: download → data → trim, clean; one parquet per dataset, language and split,
one text per language.

Inputs: the user's files, what can be fetched, or the settings of the embedded world. Outputs: download/
(what was fetched; the files lie in the data folder), data/, trim/, clean/.
"""


localrules:
    download,


WORLD_DATASETS = [name for name, dataset in CONFIG.datasets.items() if dataset.world]
FILE_DATASETS = [
    name for name in [*CONFIG.datasets, OWN_TEXT] if name not in WORLD_DATASETS
]


rule download:
    """Fetch a file, unless it is there, and check it against data.lock."""
    output:
        data=made("download"),
    log:
        out=log_of("download"),
        cost=cost_of("download"),
    benchmark:
        benchmark_of("download")
    priority: 100
    conda:
        ENVIRONMENT
    params:
        cfg=reads("download"),
        lock=data_lock,
        file=user_file,
    shell:
        "python -m deftx download --params {params.cfg:q} --lock {params.lock:q} "
        "--file {params.file:q} --cost {log.cost:q} --out {output.data:q} > {log.out:q} 2>&1"


rule data:
    """Read one split of one language from the user's file, or from what was fetched."""
    input:
        unpack(needs("data")),
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
        "python -m deftx data --params {params.cfg:q} --download {input.download:q} "
        "--file {params.file:q} --cost {log.cost:q} --out {output.data:q} > {log.out:q} 2>&1"


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


rule trim:
    """Leave out the items that another dataset was made from."""
    input:
        unpack(needs("trim")),
    output:
        data=made("trim"),
        manifest=made("trim") + ".json",
    log:
        out=log_of("trim"),
        cost=cost_of("trim"),
    benchmark:
        benchmark_of("trim")
    priority: 100
    conda:
        ENVIRONMENT
    params:
        cfg=reads("trim"),
    shell:
        "python -m deftx trim --params {params.cfg:q} --splits {input.splits:q} "
        "--made-from {input.made_from:q} --cost {log.cost:q} --out {output.data:q} "
        "> {log.out:q} 2>&1"


rule clean:
    """Put the text of a language together, and clean it."""
    input:
        unpack(needs("clean")),
    output:
        data=made("clean"),
        manifest=made("clean") + ".json",
        counts=made("clean").replace(".parquet", ".json"),
    log:
        out=log_of("clean"),
        cost=cost_of("clean"),
    benchmark:
        benchmark_of("clean")
    priority: 100
    conda:
        ENVIRONMENT
    params:
        cfg=reads("clean"),
    shell:
        "python -m deftx clean --params {params.cfg:q} --text {input.text:q} "
        "--evaluation {input.evaluation:q} --cost {log.cost:q} --out {output.data:q} "
        "> {log.out:q} 2>&1"
