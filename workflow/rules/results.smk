"""What people read: diagnostics, tables, claims, figures, costs, cards, and one page of them all.

Inputs: evaluate/, prior/, and the vectors. Outputs: diagnostics/, coverage/, tables/, figures/, costs/,
cards/, summary/.

Evaluations are passed as the folder that holds them: thousands of paths do not fit on a command line.
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


# The card of each sparse vector; only for the local rule that writes them.
CARDS = (
    [
        os.path.join(os.path.dirname(PLAN.path(vector)), "README.md")
        for vector in PLAN.inputs(Artefact.of("cards"))["vectors"]
    ]
    if workflow.is_main_process
    else []
)

EVALUATED = f"{ROOT}/evaluate"
PRIORS = [f"{ROOT}/prior"] if PLAN.priors else []
# Relative where the workflow is the working folder, so that results may be copied to another place.
PUBLISHED = sorted(
    os.path.relpath(path)
    for path in Path(workflow.basedir, "docs/results/published").glob("*.csv")
)


rule config:
    """Write the config as it is run, with its defaults."""
    input:
        unpack(needs("config")),
    output:
        **made("config"),
    log:
        **logs("config"),
    conda:
        ENVIRONMENT
    params:
        cfg=reads("config"),
    shell:
        call("config")


rule diagnostics:
    """Compare the vectors of a system with each other."""
    input:
        unpack(needs("diagnostics")),
    output:
        **made("diagnostics"),
    log:
        **logs("diagnostics"),
    conda:
        ENVIRONMENT
    params:
        cfg=reads("diagnostics"),
    shell:
        call("diagnostics", "base vectors start_vector evaluated")


rule coverage:
    """Count the pieces into which the tokenizer splits each language."""
    input:
        unpack(needs("coverage")),
    output:
        **made("coverage"),
    log:
        **logs("coverage"),
    conda:
        ENVIRONMENT
    params:
        cfg=reads("coverage"),
    shell:
        call("coverage", "base data")


rule tables:
    """Make the tables of the run."""
    input:
        unpack(needs("tables")),
        published=PUBLISHED,
    output:
        data=artefact("tables"),
        page=report(
            beside("tables", "transfer.html"),
            category="Tables",
            caption="../report/table.rst",
            labels={"result": "zero-shot transfer", "kind": "table"},
        ),
        others=beside("tables", *STAGES["tables"].beside[:-1]),
    log:
        **logs("tables"),
    conda:
        ENVIRONMENT
    params:
        cfg=reads("tables"),
        evaluated=EVALUATED,
        priors=PRIORS,
    shell:
        call("tables", "test published", "evaluated priors")


rule claims:
    """Compute the papers' claims on this run."""
    input:
        unpack(needs("claims")),
    output:
        **made("claims"),
    log:
        **logs("claims"),
    conda:
        ENVIRONMENT
    params:
        cfg=reads("claims"),
        evaluated=EVALUATED,
        priors=PRIORS,
    shell:
        call("claims", "diagnostics coverage", "evaluated priors")


rule figures:
    """Draw the figures of the run."""
    input:
        unpack(needs("figures")),
    output:
        data=in_report("transfer"),
        drawn=[in_report(figure) for figure in FIGURES[1:]],
        others=beside("figures", *(f"{figure}.png" for figure in FIGURES)),
    log:
        **logs("figures"),
    conda:
        ENVIRONMENT
    params:
        cfg=reads("figures"),
        evaluated=EVALUATED,
        priors=PRIORS,
    shell:
        call("figures", "base masks denoised diagnostics coverage", "evaluated priors")


rule costs:
    """Add up what each system cost."""
    input:
        unpack(needs("costs")),
    output:
        **made("costs"),
    log:
        **logs("costs"),
    conda:
        ENVIRONMENT
    params:
        cfg=reads("costs"),
        evaluated=EVALUATED,
        folder=f"{ROOT}/benchmarks",
    shell:
        call("costs", "config", "folder evaluated")


rule cards:
    """Write the card of each vector, with its scores."""
    input:
        unpack(needs("cards")),
    output:
        data=artefact("cards"),
        cards=CARDS,
    log:
        **logs("cards"),
    conda:
        ENVIRONMENT
    params:
        cfg=reads("cards"),
        evaluated=EVALUATED,
        priors=PRIORS,
        folder=lambda wildcards: ROOT,
    shell:
        call("cards", "config", "folder evaluated priors")


rule summary:
    """Make the page that sums up the run."""
    input:
        unpack(needs("summary")),
    output:
        data=report(
            artefact("summary"),
            category="Start here",
            caption="../report/summary.rst",
            labels={"result": "the run on one page", "kind": "page"},
        ),
    log:
        **logs("summary"),
    conda:
        ENVIRONMENT
    params:
        cfg=reads("summary"),
    shell:
        call("summary", "base config tables figures costs claims coverage cleaned")
