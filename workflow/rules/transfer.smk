"""Zero-shot transfer: compose → evaluate, and prior beside it.

Inputs: sparse/ (or full/ and denoise/ for dense systems), test sets and unlabelled items in data/. Outputs:
compose/, evaluate/, prior/.
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


rule prior:
    """Find the bias that gives the predictions of a language a chosen mean."""
    input:
        unpack(needs("prior")),
    output:
        **made("prior"),
    log:
        **logs("prior"),
    conda:
        ENVIRONMENT
    threads: PLAN.threads("prior")
    resources:
        gpu=PLAN.gpus("prior"),
        gpu_shares=gpu_shares("prior"),
    params:
        cfg=reads("prior"),
    shell:
        call(
            "prior",
            "base composed unlabelled task_vector language_vector start_vector source",
        )
