"""Vectors of languages and tasks: full → denoise → mask → sparse; or one that exists: convert.

Inputs: tokens/, base/. Outputs: full/ (one for all methods), denoise/ (one for each rank rule),
mask/ and sparse/ (one for each method); convert/; mean/ of several seeds.
"""


rule full:
    """Fine-tune all weights, from the start weights of the target."""
    input:
        unpack(needs("full")),
    output:
        **made("full"),
    log:
        **logs("full"),
    conda:
        ENVIRONMENT
    threads: PLAN.threads("full")
    resources:
        gpu=PLAN.gpus("full"),
        gpu_shares=gpu_shares("full"),
    params:
        cfg=reads("full"),
        report_to=trackers,
    shell:
        call(
            "full",
            "base train valid start_vector round_vector source_vector",
            "report_to",
        )


rule denoise:
    """Keep the leading singular components of the difference, matrix by matrix."""
    input:
        unpack(needs("denoise")),
    output:
        **made("denoise"),
    log:
        **logs("denoise"),
    conda:
        ENVIRONMENT
    threads: PLAN.threads("denoise")
    resources:
        gpu=PLAN.gpus("denoise"),
        gpu_shares=gpu_shares("denoise"),
    params:
        cfg=reads("denoise"),
    shell:
        call("denoise", "base full start_vector")


rule mask:
    """Choose exactly K entries."""
    input:
        unpack(needs("mask")),
    output:
        **made("mask"),
    log:
        **logs("mask"),
    conda:
        ENVIRONMENT
    threads: PLAN.threads("mask")
    params:
        cfg=reads("mask"),
    shell:
        call("mask", "base delta start_vector observed chosen")


rule sparse:
    """Re-train only the chosen entries, from the start weights again."""
    input:
        unpack(needs("sparse")),
    output:
        **made("sparse"),
    log:
        **logs("sparse"),
    conda:
        ENVIRONMENT
    threads: PLAN.threads("sparse")
    resources:
        gpu=PLAN.gpus("sparse"),
        gpu_shares=gpu_shares("sparse"),
    params:
        cfg=reads("sparse"),
        report_to=trackers,
    shell:
        call(
            "sparse",
            "base mask train valid start_vector delta round_vector source_vector",
            "report_to",
        )


rule convert:
    """Read a vector that others made: a file of the user, or from the hub."""
    input:
        unpack(needs("convert")),
    output:
        **made("convert"),
    log:
        **logs("convert"),
    conda:
        ENVIRONMENT
    params:
        cfg=reads("convert"),
        vector=foreign_vector,
    shell:
        call("convert", "base", "vector")


rule mean:
    """Average the vectors of several seeds."""
    input:
        unpack(needs("mean")),
    output:
        **made("mean"),
    log:
        **logs("mean"),
    conda:
        ENVIRONMENT
    threads: PLAN.threads("mean")
    params:
        cfg=reads("mean"),
    shell:
        call("mean", "base vectors start_vector")
