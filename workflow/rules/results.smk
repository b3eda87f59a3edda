"""What a reader looks at: tables, figures, and the report made of them.

Inputs: evaluate/, mask/, denoise/. Outputs: tables/, figures/.
"""


localrules:
    all,
    tables,
    figures,


rule tables:
    """Make the tables of the run."""
    input:
        unpack(needs("tables")),
    output:
        data=made("tables"),
        page=report(
            beside("tables", "transfer.html"),
            category="Results",
            caption="../report/table.rst",
            labels={"result": "zero-shot transfer", "kind": "table"},
        ),
        others=beside("tables", *COMPANIONS["tables"][:-1]),
    log:
        log_of("tables"),
    benchmark:
        benchmark_of("tables")
    conda:
        ENVIRONMENT
    params:
        cfg=reads("tables"),
    shell:
        "python -m deftx tables --params {params.cfg:q} --evaluated {input.evaluated:q} "
        "--out {output.data:q} > {log:q} 2>&1"


rule figures:
    """Draw the figures of the run."""
    input:
        unpack(needs("figures")),
    output:
        data=report(
            made("figures"),
            category="Results",
            caption="../report/transfer.rst",
            labels={"result": "zero-shot transfer", "kind": "figure"},
        ),
        mask=report(
            beside("figures", "mask.svg"),
            category="Vectors",
            caption="../report/mask.rst",
            labels={"result": "where the masks lie", "kind": "figure"},
        ),
        spectrum=report(
            beside("figures", "spectrum.svg"),
            category="Vectors",
            caption="../report/spectrum.rst",
            labels={"result": "singular values and the cut", "kind": "figure"},
        ),
        others=beside("figures", "transfer.png", "mask.png", "spectrum.png"),
    log:
        log_of("figures"),
    benchmark:
        benchmark_of("figures")
    conda:
        ENVIRONMENT
    params:
        cfg=reads("figures"),
    shell:
        "python -m deftx figures --params {params.cfg:q} --base {input.base:q} "
        "--evaluated {input.evaluated:q} --masks {input.masks:q} --denoised {input.denoised:q} "
        "--out {output.data:q} > {log:q} 2>&1"
