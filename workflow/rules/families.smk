"""Vectors of methods that choose no entries: adapters, learned soft masks, low-rank vectors.

Inputs: tokens/, base/. Outputs: adapter/, gate/ and gated/, lora/.
"""


rule adapter:
    """Train adapters: of a language, or of a task on top of its source language's."""
    input:
        unpack(needs("adapter")),
    output:
        **made("adapter"),
    log:
        **logs("adapter"),
    conda:
        ENVIRONMENT
    threads: PLAN.threads("adapter")
    resources:
        gpu=PLAN.gpus("adapter"),
        gpu_shares=gpu_shares("adapter"),
    params:
        cfg=reads("adapter"),
        report_to=trackers,
    shell:
        call("adapter", "base train valid language_adapter", "report_to")


rule gate:
    """Learn a soft mask of the linear layers, their weights fixed."""
    input:
        unpack(needs("gate")),
    output:
        **made("gate"),
    log:
        **logs("gate"),
    conda:
        ENVIRONMENT
    threads: PLAN.threads("gate")
    resources:
        gpu=PLAN.gpus("gate"),
        gpu_shares=gpu_shares("gate"),
    params:
        cfg=reads("gate"),
        report_to=trackers,
    shell:
        call("gate", "base train valid start_vector", "report_to")


rule gated:
    """Train the weights of the linear layers under their soft mask."""
    input:
        unpack(needs("gated")),
    output:
        **made("gated"),
    log:
        **logs("gated"),
    conda:
        ENVIRONMENT
    threads: PLAN.threads("gated")
    resources:
        gpu=PLAN.gpus("gated"),
        gpu_shares=gpu_shares("gated"),
    params:
        cfg=reads("gated"),
        report_to=trackers,
    shell:
        call("gated", "base train valid gates start_vector", "report_to")


rule lora:
    """Train a low-rank vector."""
    input:
        unpack(needs("lora")),
    output:
        **made("lora"),
    log:
        **logs("lora"),
    conda:
        ENVIRONMENT
    threads: PLAN.threads("lora")
    resources:
        gpu=PLAN.gpus("lora"),
        gpu_shares=gpu_shares("lora"),
    params:
        cfg=reads("lora"),
        report_to=trackers,
    shell:
        call("lora", "base train valid start_vector", "report_to")
