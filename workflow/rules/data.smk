"""Text and labelled items: download → data → trim, clean → tokens; one parquet per dataset, language
and split, one text per language.

Inputs: the user's files, files that can be downloaded, or the settings of the embedded world. Outputs:
download/ (records; the files themselves are in the data folder), data/, trim/, clean/, tokens/.
"""


localrules:
    download,


WORLD_DATASETS = [name for name, dataset in CONFIG.datasets.items() if dataset.world]
FILE_DATASETS = [
    name for name in [*CONFIG.datasets, OWN_TEXT] if name not in WORLD_DATASETS
]


rule download:
    """Download a file, unless it is there, and check it against data.lock."""
    input:
        unpack(needs("download")),
    output:
        **made("download"),
    log:
        **logs("download"),
    priority: 100
    conda:
        ENVIRONMENT
    params:
        cfg=reads("download"),
        lock=data_lock,
        file=user_file,
    shell:
        call("download", params="lock file")


rule data:
    """Read one split of one language from the user's file or a downloaded one."""
    input:
        unpack(needs("data")),
    output:
        **made("data"),
    log:
        **logs("data"),
    wildcard_constraints:
        dataset="|".join(FILE_DATASETS),
    priority: 100  # what is wrong with the data shows before anything is trained
    conda:
        ENVIRONMENT
    params:
        cfg=reads("data"),
        file=user_file,
        others=other_files,
    shell:
        call("data", "download", "file others")


rule world:
    """Make one split of one language of the embedded world."""
    input:
        unpack(needs("world")),
    output:
        **made("world"),
    log:
        **logs("world"),
    wildcard_constraints:
        dataset="|".join(WORLD_DATASETS) or "no-dataset-of-the-world",
    priority: 100
    conda:
        ENVIRONMENT
    params:
        cfg=reads("world"),
    shell:
        call("world")


rule trim:
    """Remove the items that another dataset was made from."""
    input:
        unpack(needs("trim")),
    output:
        **made("trim"),
    log:
        **logs("trim"),
    priority: 100
    conda:
        ENVIRONMENT
    params:
        cfg=reads("trim"),
    shell:
        call("trim", "splits made_from")


rule clean:
    """Join the texts of a language and clean them."""
    input:
        unpack(needs("clean")),
    output:
        **made("clean"),
    log:
        **logs("clean"),
    priority: 100
    conda:
        ENVIRONMENT
    params:
        cfg=reads("clean"),
    shell:
        call("clean", "text evaluation")


rule tokens:
    """Tokenise a text or labelled items, once for all that read them."""
    input:
        unpack(needs("tokens")),
    output:
        **made("tokens"),
    log:
        **logs("tokens"),
    priority: 80
    conda:
        ENVIRONMENT
    params:
        cfg=reads("tokens"),
    shell:
        call("tokens", "base data")
