"""Vectors of languages and tasks: full → denoise → mask → sparse; or one that exists: convert.

Inputs: data/, base/. Outputs: full/ (one for all methods), denoise/ (one for each rank rule),
mask/ and sparse/ (one for each method); convert/.
"""


rule full:
    """Fine-tune everything, from the start weights of the target."""
    input:
        unpack(needs("full")),
    output:
        data=made("full"),
        manifest=made("full") + ".json",
    log:
        out=log_of("full"),
        cost=cost_of("full"),
    benchmark:
        benchmark_of("full")
    conda:
        ENVIRONMENT
    threads: CONFIG.threads.full
    resources:
        gpu=CONFIG.engine.devices,
    params:
        cfg=reads("full"),
        report_to=trackers,
    shell:
        "python -m deftx full --params {params.cfg:q} --report-to {params.report_to:q} "
        "--base {input.base:q} --train {input.train:q} --valid {input.valid:q} "
        "--start-vector {input.start_vector:q} --round-vector {input.round_vector:q} "
        "--source-vector {input.source_vector:q} --cost {log.cost:q} --out {output.data:q} "
        "> {log.out:q} 2>&1"


rule denoise:
    """Keep the leading singular components of the difference, matrix by matrix."""
    input:
        unpack(needs("denoise")),
    output:
        data=made("denoise"),
        manifest=made("denoise") + ".json",
    log:
        out=log_of("denoise"),
        cost=cost_of("denoise"),
    benchmark:
        benchmark_of("denoise")
    conda:
        ENVIRONMENT
    threads: CONFIG.threads.denoise
    resources:
        gpu=1,
    params:
        cfg=reads("denoise"),
    shell:
        "python -m deftx denoise --params {params.cfg:q} --base {input.base:q} "
        "--full {input.full:q} --start-vector {input.start_vector:q} --cost {log.cost:q} "
        "--out {output.data:q} > {log.out:q} 2>&1"


rule mask:
    """Choose exactly K entries."""
    input:
        unpack(needs("mask")),
    output:
        data=made("mask"),
        manifest=made("mask") + ".json",
    log:
        out=log_of("mask"),
        cost=cost_of("mask"),
    benchmark:
        benchmark_of("mask")
    conda:
        ENVIRONMENT
    threads: CONFIG.threads.mask
    params:
        cfg=reads("mask"),
    shell:
        "python -m deftx mask --params {params.cfg:q} --base {input.base:q} "
        "--delta {input.delta:q} --start-vector {input.start_vector:q} "
        "--observed {input.observed:q} --chosen {input.chosen:q} --cost {log.cost:q} "
        "--out {output.data:q} > {log.out:q} 2>&1"


rule sparse:
    """Re-train only the chosen entries, from the start weights again."""
    input:
        unpack(needs("sparse")),
    output:
        data=made("sparse"),
        manifest=made("sparse") + ".json",
        others=beside("sparse", *COMPANIONS["sparse"]),
    log:
        out=log_of("sparse"),
        cost=cost_of("sparse"),
    benchmark:
        benchmark_of("sparse")
    conda:
        ENVIRONMENT
    threads: CONFIG.threads.sparse
    resources:
        gpu=CONFIG.engine.devices,
    params:
        cfg=reads("sparse"),
        report_to=trackers,
    shell:
        "python -m deftx sparse --params {params.cfg:q} --report-to {params.report_to:q} "
        "--base {input.base:q} --mask {input.mask:q} --train {input.train:q} "
        "--valid {input.valid:q} --start-vector {input.start_vector:q} --delta {input.delta:q} "
        "--round-vector {input.round_vector:q} --source-vector {input.source_vector:q} "
        "--cost {log.cost:q} --out {output.data:q} > {log.out:q} 2>&1"


rule convert:
    """Read a vector that others made: a file of the user, or from the hub."""
    input:
        unpack(needs("convert")),
    output:
        data=made("convert"),
        manifest=made("convert") + ".json",
        others=beside("convert", *COMPANIONS["convert"]),
    log:
        out=log_of("convert"),
        cost=cost_of("convert"),
    benchmark:
        benchmark_of("convert")
    conda:
        ENVIRONMENT
    params:
        cfg=reads("convert"),
        vector=foreign_vector,
    shell:
        "python -m deftx convert --params {params.cfg:q} --base {input.base:q} "
        "--vector {params.vector:q} --cost {log.cost:q} --out {output.data:q} > {log.out:q} 2>&1"
