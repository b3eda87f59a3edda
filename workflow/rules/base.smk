"""The base model, and whether every method can work on it.

Inputs: a hub id, a local folder, or text to pretrain on. Outputs: base/, check/.
"""


def local_model(wildcards, threads):
    """The local model folder, if the base is one; derived, as the files of `data` are."""
    folder = PLAN.base_folder()
    return [str(folder)] if folder else []


rule base:
    """Fetch the pretrained encoder, or pretrain a small one."""
    input:
        unpack(needs("base")),
    output:
        data=made("base"),
        manifest=made("base") + ".json",
        others=beside("base", *COMPANIONS["base"]),
    params:
        cfg=reads("base"),
        model=local_model,
    log:
        log_of("base"),
    benchmark:
        benchmark_of("base")
    threads: CONFIG.threads.base
    resources:
        gpu=1,
    conda:
        ENVIRONMENT
    priority: 90
    shell:
        "python -m deftx base --params {params.cfg:q} --model {params.model:q} "
        "--text {input.text:q} --out {output.data:q} > {log:q} 2>&1"


rule check:
    """Tell, before anything is trained, whether every method can work on the base."""
    input:
        unpack(needs("check")),
    output:
        made("check"),
    params:
        cfg=reads("check"),
    log:
        log_of("check"),
    benchmark:
        benchmark_of("check")
    conda:
        ENVIRONMENT
    priority: 90
    shell:
        "python -m deftx check --params {params.cfg:q} --base {input.base:q} --out {output:q} "
        "> {log:q} 2>&1"
