"""Vectors of methods that choose no entries: adapters, learned soft masks, low-rank vectors.

Inputs: data/, base/. Outputs: adapter/, gate/ and gated/, lora/.
"""


rule adapter:
    """Train adapters: of a language, or of a task on top of its source language's."""
    input:
        unpack(needs("adapter")),
    output:
        data=made("adapter"),
        manifest=made("adapter") + ".json",
    log:
        out=log_of("adapter"),
        cost=cost_of("adapter"),
    benchmark:
        benchmark_of("adapter")
    conda:
        ENVIRONMENT
    threads: CONFIG.threads.adapter
    resources:
        gpu=1,
    params:
        cfg=reads("adapter"),
        report_to=trackers,
    shell:
        "python -m deftx adapter --params {params.cfg:q} --report-to {params.report_to:q} "
        "--base {input.base:q} --train {input.train:q} --valid {input.valid:q} "
        "--language-adapter {input.language_adapter:q} --cost {log.cost:q} "
        "--out {output.data:q} > {log.out:q} 2>&1"


rule gate:
    """Learn a soft mask of the linear layers, their weights fixed."""
    input:
        unpack(needs("gate")),
    output:
        data=made("gate"),
        manifest=made("gate") + ".json",
    log:
        out=log_of("gate"),
        cost=cost_of("gate"),
    benchmark:
        benchmark_of("gate")
    conda:
        ENVIRONMENT
    threads: CONFIG.threads.gate
    resources:
        gpu=1,
    params:
        cfg=reads("gate"),
        report_to=trackers,
    shell:
        "python -m deftx gate --params {params.cfg:q} --report-to {params.report_to:q} "
        "--base {input.base:q} --train {input.train:q} --valid {input.valid:q} "
        "--start-vector {input.start_vector:q} --cost {log.cost:q} "
        "--out {output.data:q} > {log.out:q} 2>&1"


rule gated:
    """Train the weights of the linear layers under their soft mask."""
    input:
        unpack(needs("gated")),
    output:
        data=made("gated"),
        manifest=made("gated") + ".json",
    log:
        out=log_of("gated"),
        cost=cost_of("gated"),
    benchmark:
        benchmark_of("gated")
    conda:
        ENVIRONMENT
    threads: CONFIG.threads.gated
    resources:
        gpu=1,
    params:
        cfg=reads("gated"),
        report_to=trackers,
    shell:
        "python -m deftx gated --params {params.cfg:q} --report-to {params.report_to:q} "
        "--base {input.base:q} --train {input.train:q} --valid {input.valid:q} "
        "--gates {input.gates:q} --start-vector {input.start_vector:q} --cost {log.cost:q} "
        "--out {output.data:q} > {log.out:q} 2>&1"


rule lora:
    """Train a low-rank vector."""
    input:
        unpack(needs("lora")),
    output:
        data=made("lora"),
        manifest=made("lora") + ".json",
    log:
        out=log_of("lora"),
        cost=cost_of("lora"),
    benchmark:
        benchmark_of("lora")
    conda:
        ENVIRONMENT
    threads: CONFIG.threads.lora
    resources:
        gpu=1,
    params:
        cfg=reads("lora"),
        report_to=trackers,
    shell:
        "python -m deftx lora --params {params.cfg:q} --report-to {params.report_to:q} "
        "--base {input.base:q} --train {input.train:q} --valid {input.valid:q} "
        "--start-vector {input.start_vector:q} --cost {log.cost:q} "
        "--out {output.data:q} > {log.out:q} 2>&1"
