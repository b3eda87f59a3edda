"""Zero-shot transfer: compose → evaluate.

Inputs: sparse/ (or full/ and denoise/ for dense systems), test sets in data/. Outputs: compose/,
evaluate/.
"""


rule compose:
    """Add task and language vector."""
    input:
        unpack(needs("compose")),
    output:
        data=made("compose"),
        manifest=made("compose") + ".json",
    log:
        out=log_of("compose"),
        cost=cost_of("compose"),
    benchmark:
        benchmark_of("compose")
    conda:
        ENVIRONMENT
    threads: CONFIG.threads.compose
    params:
        cfg=reads("compose"),
    shell:
        "python -m deftx compose --params {params.cfg:q} --base {input.base:q} "
        "--task-vector {input.task_vector:q} --language-vector {input.language_vector:q} "
        "--cost {log.cost:q} --out {output.data:q} > {log.out:q} 2>&1"


rule evaluate:
    """Predict and score the test set of a language."""
    input:
        unpack(needs("evaluate")),
    output:
        data=made("evaluate"),
        manifest=made("evaluate") + ".json",
    log:
        out=log_of("evaluate"),
        cost=cost_of("evaluate"),
    benchmark:
        benchmark_of("evaluate")
    conda:
        ENVIRONMENT
    threads: CONFIG.threads.evaluate
    resources:
        gpu=1,
    params:
        cfg=reads("evaluate"),
    shell:
        "python -m deftx evaluate --params {params.cfg:q} --base {input.base:q} "
        "--composed {input.composed:q} --test {input.test:q} --task-vector {input.task_vector:q} "
        "--language-vector {input.language_vector:q} --start-vector {input.start_vector:q} "
        "--cost {log.cost:q} --out {output.data:q} > {log.out:q} 2>&1"
