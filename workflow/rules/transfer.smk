"""Zero-shot transfer: compose → evaluate.

Inputs: sparse/ (or full/ and denoise/ for dense systems), test sets in data/. Outputs: compose/,
evaluate/.
"""


rule compose:
    """Add task and language vector."""
    input:
        unpack(needs("compose")),
    output:
        **made("compose"),
    log:
        **logs("compose"),
    conda:
        ENVIRONMENT
    threads: PLAN.threads("compose")
    params:
        cfg=reads("compose"),
    shell:
        call("compose", "base task_vector language_vector")


rule evaluate:
    """Predict the test set of a language."""
    input:
        unpack(needs("evaluate")),
    output:
        **made("evaluate"),
    log:
        **logs("evaluate"),
    conda:
        ENVIRONMENT
    threads: PLAN.threads("evaluate")
    resources:
        gpu=PLAN.gpus("evaluate"),
        gpu_shares=gpu_shares("evaluate"),
    params:
        cfg=reads("evaluate"),
    shell:
        call("evaluate", "base composed test task_vector language_vector start_vector")
