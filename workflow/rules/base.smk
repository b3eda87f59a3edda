"""The base model.

Inputs: a hub id, a local folder, or text to pretrain on. Outputs: base/.
"""

if PLAN.files.base_is_fetched():

    localrules:
        base,


rule base:
    """Fetch the pretrained encoder, or pretrain a small one."""
    input:
        unpack(needs("base")),
    output:
        data=made("base"),
        manifest=made("base") + ".json",
        others=beside("base", *COMPANIONS["base"]),
    log:
        out=log_of("base"),
        cost=cost_of("base"),
    benchmark:
        benchmark_of("base")
    priority: 90
    conda:
        ENVIRONMENT
    threads: CONFIG.threads.base
    resources:
        gpu=1,
    params:
        cfg=reads("base"),
        model=local_model,
        methods=methods_in_use,
    shell:
        "python -m deftx base --params {params.cfg:q} --model {params.model:q} "
        "--methods {params.methods:q} --text {input.text:q} --cost {log.cost:q} --out {output.data:q} > {log.out:q} 2>&1"
