"""What a reader looks at: diagnostics, tables, figures, cards, and the page that leads to them.

Inputs: evaluate/, and the vectors. Outputs: diagnostics/, coverage/, tables/, figures/, costs/,
cards/, summary/.

Evaluations are handed on as the folder that holds them: thousands of paths do not fit on a command
line.
"""


localrules:
    all,
    config,
    tables,
    claims,
    figures,
    costs,
    cards,
    summary,


EVALUATED = f"{ROOT}/evaluate"
PUBLISHED = sorted(
    str(path) for path in Path(workflow.basedir, "docs/results/published").glob("*.csv")
)


rule config:
    """Write down the config as it is run, with its defaults."""
    output:
        data=made("config"),
    log:
        log_of("config"),
    conda:
        ENVIRONMENT
    params:
        cfg=reads("config"),
    shell:
        "python -m deftx config --params {params.cfg:q} --out {output.data:q} > {log:q} 2>&1"


rule diagnostics:
    """Compare the vectors of a system with each other."""
    input:
        unpack(needs("diagnostics")),
    output:
        data=made("diagnostics"),
    log:
        out=log_of("diagnostics"),
        cost=cost_of("diagnostics"),
    benchmark:
        benchmark_of("diagnostics")
    conda:
        ENVIRONMENT
    params:
        cfg=reads("diagnostics"),
    shell:
        "python -m deftx diagnostics --params {params.cfg:q} --base {input.base:q} "
        "--vectors {input.vectors:q} --start-vector {input.start_vector:q} "
        "--evaluated {input.evaluated:q} --cost {log.cost:q} --out {output.data:q} "
        "> {log.out:q} 2>&1"


rule coverage:
    """Count into how many pieces the tokenizer cuts each language."""
    input:
        unpack(needs("coverage")),
    output:
        data=made("coverage"),
    log:
        out=log_of("coverage"),
        cost=cost_of("coverage"),
    benchmark:
        benchmark_of("coverage")
    conda:
        ENVIRONMENT
    params:
        cfg=reads("coverage"),
    shell:
        "python -m deftx coverage --params {params.cfg:q} --base {input.base:q} "
        "--items {input.data:q} --cost {log.cost:q} --out {output.data:q} > {log.out:q} 2>&1"


rule tables:
    """Make the tables of the run."""
    input:
        unpack(needs("tables")),
        published=PUBLISHED,
    output:
        data=made("tables"),
        page=report(
            beside("tables", "transfer.html"),
            category="Tables",
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
        evaluated=EVALUATED,
    shell:
        "python -m deftx tables --params {params.cfg:q} --evaluated {params.evaluated:q} "
        "--published {input.published:q} --out {output.data:q} > {log:q} 2>&1"


rule claims:
    """Measure again what the papers claim."""
    input:
        unpack(needs("claims")),
    output:
        data=made("claims"),
        others=beside("claims", *COMPANIONS["claims"]),
    log:
        log_of("claims"),
    benchmark:
        benchmark_of("claims")
    conda:
        ENVIRONMENT
    params:
        cfg=reads("claims"),
        evaluated=EVALUATED,
    shell:
        "python -m deftx claims --params {params.cfg:q} --evaluated {params.evaluated:q} "
        "--diagnostics {input.diagnostics:q} --coverage {input.coverage:q} "
        "--out {output.data:q} > {log:q} 2>&1"


rule figures:
    """Draw the figures of the run."""
    input:
        unpack(needs("figures")),
    output:
        data=report(
            made("figures"),
            category="Figures",
            caption="../report/transfer.rst",
            labels={"result": TITLES["transfer"], "kind": "figure"},
        ),
        drawn=[caption(figure) for figure in FIGURES[1:]],
        others=beside("figures", *(f"{name}.png" for name in FIGURES)),
    log:
        log_of("figures"),
    benchmark:
        benchmark_of("figures")
    conda:
        ENVIRONMENT
    params:
        cfg=reads("figures"),
        evaluated=EVALUATED,
    shell:
        "python -m deftx figures --params {params.cfg:q} --base {input.base:q} "
        "--evaluated {params.evaluated:q} --masks {input.masks:q} --denoised {input.denoised:q} "
        "--diagnostics {input.diagnostics:q} --coverage {input.coverage:q} "
        "--out {output.data:q} > {log:q} 2>&1"


rule costs:
    """Add up what each system cost."""
    input:
        unpack(needs("costs")),
    output:
        data=made("costs"),
        others=beside("costs", *COMPANIONS["costs"]),
    log:
        log_of("costs"),
    conda:
        ENVIRONMENT
    params:
        cfg=reads("costs"),
        evaluated=EVALUATED,
        folder=f"{ROOT}/benchmarks",
    shell:
        "python -m deftx costs --params {params.cfg:q} --config {input.config:q} "
        "--folder {params.folder:q} --evaluated {params.evaluated:q} --out {output.data:q} "
        "> {log:q} 2>&1"


rule cards:
    """Write the card of each vector, with its scores."""
    input:
        unpack(needs("cards")),
    output:
        data=made("cards"),
        cards=CARDS,
    log:
        log_of("cards"),
    conda:
        ENVIRONMENT
    params:
        cfg=reads("cards"),
        evaluated=EVALUATED,
        folder=run_folder,
    shell:
        "python -m deftx cards --params {params.cfg:q} --config {input.config:q} "
        "--folder {params.folder:q} --evaluated {params.evaluated:q} --out {output.data:q} "
        "> {log:q} 2>&1"


rule summary:
    """Make the page that leads the reader."""
    input:
        unpack(needs("summary")),
    output:
        data=report(
            made("summary"),
            category="Start here",
            caption="../report/summary.rst",
            labels={"result": "the run on one page", "kind": "page"},
        ),
    log:
        log_of("summary"),
    conda:
        ENVIRONMENT
    params:
        cfg=reads("summary"),
    shell:
        "python -m deftx summary --params {params.cfg:q} --base {input.base:q} "
        "--config {input.config:q} --tables {input.tables:q} --figures {input.figures:q} "
        "--costs {input.costs:q} --claims {input.claims:q} --coverage {input.coverage:q} "
        "--cleaned {input.cleaned:q} "
        "--out {output.data:q} > {log:q} 2>&1"
