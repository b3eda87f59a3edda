"""The base model.

Inputs: a hub id, a local folder, or text to pretrain on. Outputs: base/.
"""

if PLAN.user_files.base_is_downloaded():

    localrules:
        base,


rule base:
    """Download the pretrained encoder, or pretrain a small one."""
    input:
        unpack(needs("base")),
    output:
        **made("base"),
    log:
        **logs("base"),
    priority: 90
    conda:
        ENVIRONMENT
    threads: PLAN.threads("base")
    resources:
        gpu=PLAN.gpus("base"),
        gpu_shares=gpu_shares("base"),
    params:
        cfg=reads("base"),
        model=local_model,
        uses=uses_of_base,
    shell:
        call("base", "text", "model uses")
