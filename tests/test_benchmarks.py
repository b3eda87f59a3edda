"""The benchmarks: the plain training loop, their models and data, and their timing."""

import contextlib
import json
import math
import os
import subprocess
import sys
import threading
import unittest.mock

import pytest
import simulated_gpu
import torch
from conftest import PROJECT, sentences
from training import assert_close, differing, snapshot

from benchmarks import gpu, measure, models, passes, profile, reference, start, tokens, training
from deftx.engine.passes import Passes
from deftx.store.items import write_items

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def language_model(**settings):
    return models.masked_lm("tiny", **settings)


def small_batches(count=3):
    return models.language_batches("tiny", count, batch_size=4, length=32)


def trained_by_reference(masks=None):
    """The start and the end of a model that three steps of the plain loop trained."""
    model = language_model()
    before = snapshot(model)
    trainer = reference.Reference(model, masks, learning_rate=1e-3, l1=0.1, steps=10)
    for batch in small_batches():
        trainer.step(batch)
    return before, snapshot(model)


def test_the_reference_keeps_the_bits_of_entries_outside_the_mask():
    mask = models.random_mask(models.maskable_shapes(language_model()))
    before, after = trained_by_reference({name: mask.dense(name) for name in mask.index})
    names, moved = differing(after, before), 0
    for name in names:
        changed = after[name] != before[name]
        if name.startswith("roberta."):
            assert not (changed & ~mask.dense(name.removeprefix("roberta."))).any(), name
            moved += int(changed.sum())
    assert moved > 0.3 * len(mask)  # not all: a batch touches only some rows of the embeddings
    assert "lm_head.dense.weight" in names and "lm_head.decoder.weight" not in names


def test_the_full_phase_trains_everything_except_normalisation_layers_and_decoder():
    before, after = trained_by_reference()
    frozen = {name for name in before if "LayerNorm" in name} | {"lm_head.decoder.weight"}
    assert differing(after, before) == before.keys() - frozen


@pytest.mark.rounding
def test_a_step_is_adamw_on_clipped_gradients_with_linear_decay():
    """A step computed by hand for one tensor; the last step of the schedule has a positive rate."""
    batch = small_batches(1)[0]
    model, twin = (language_model(**NO_DROPOUT).double() for _ in range(2))
    trainer = reference.Reference(model, learning_rate=1e-2, steps=4)
    rates = []
    weight = twin.roberta.encoder.layer[0].output.dense.weight
    for name, parameter in twin.named_parameters():
        if "LayerNorm" in name:
            parameter.requires_grad_(False)
    twin(**batch).loss.backward()
    gradients = [p.grad.double().flatten() for p in twin.parameters() if p.grad is not None]
    gradient = weight.grad * min(1.0, 1.0 / (float(torch.cat(gradients).norm()) + 1e-6))
    expected = weight.detach() - 1e-2 * gradient / (gradient.abs() + 1e-8)
    for _ in range(4):
        rates.append(trainer.optimizer.param_groups[0]["lr"])
        trainer.step(batch)
        if len(rates) == 1:
            found = model.roberta.encoder.layer[0].output.dense.weight
            assert_close({"weight": found}, {"weight": expected})
    assert rates == pytest.approx([1e-2, 0.75e-2, 0.5e-2, 0.25e-2])


@pytest.mark.rounding
def test_the_penalty_has_the_gradient_of_the_closed_form():
    model = language_model().double()
    trainer = reference.Reference(model, l1=0.1)
    start = snapshot(model)
    with torch.no_grad():
        for parameter in trainer.trained:
            parameter.add_(torch.randn_like(parameter) * (torch.rand_like(parameter) < 0.5))
    trainer.penalty().backward()
    total = sum(parameter.numel() for parameter in model.parameters())
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    signs = {name: (p.detach() - start[name]).sign() for name, p in trained.items()}
    expected = {name: sign * (0.1 / total) for name, sign in signs.items()}
    assert_close({name: p.grad for name, p in trained.items()}, expected)


@pytest.mark.rounding
def test_micro_batches_with_equal_numbers_of_labels_train_as_the_whole_batch():
    batch = reference.padded(models.task_examples("tiny", 4))
    ends = []
    for parts in (1, 2):
        model = models.classifier("tiny", **NO_DROPOUT).double()
        trainer = reference.Reference(model, learning_rate=1e-3, micro_batches=parts)
        losses = [float(trainer.step(batch)) for _ in range(2)]
        ends.append(losses)
    assert ends[0] == pytest.approx(ends[1], rel=1e-10)


@pytest.mark.parametrize("target", ["language", "task"])
@pytest.mark.parametrize("size", ["tiny", "mini"])
def test_a_random_mask_has_exactly_k_entries_in_the_shares_of_a_real_one(size, target):
    shapes = shapes_of(size)
    mask = models.random_mask(shapes, target)
    total = sum(math.prod(shape) for shape in shapes.values())
    assert len(mask) == round(models.CHOSEN[target] * total)
    mask.check_fits(shapes)
    for name, index in mask.index.items():
        assert index.dtype == torch.int64
        assert (index.diff() > 0).all() and index[0] >= 0, name
        assert index[-1] < math.prod(shapes[name]), name
    words = len(mask.index["embeddings.word_embeddings.weight"])
    assert words / len(mask) == pytest.approx(0.195, abs=0.001)
    again = models.random_mask(dict(reversed(shapes.items())), target)
    assert differing(mask.index, again.index) == set()


def shapes_of(size):
    with torch.device("meta"):
        return models.maskable_shapes(models.XLMRobertaForMaskedLM(models.config(size)))


def test_xlm_r_base_has_the_published_number_of_entries():
    shapes = shapes_of("xlm-r-base")
    total = sum(math.prod(shape) for shape in shapes.values())
    assert total == 277_414_656
    assert [round(share * total) for share in models.CHOSEN.values()] == [7_667_712, 14_155_776]
    with torch.device("meta"):
        model = models.XLMRobertaForMaskedLM(models.config("xlm-r-base"))
        models.untie_decoder(model)
    assert sum(parameter.numel() for parameter in model.parameters()) == 470_296_722


def test_sentences_have_the_lengths_of_smsa_and_are_padded_to_128_tokens():
    examples = models.task_examples("tiny", 20_000)
    lengths = torch.tensor([len(example["input_ids"]) for example in examples], dtype=torch.float)
    assert lengths.min() >= 3 and lengths.max() <= 128
    assert float(lengths.mean()) == pytest.approx(45.65, abs=1)
    assert float(lengths.median()) == pytest.approx(39, abs=2)
    for example in examples[:100]:
        row = example["input_ids"]
        assert row[0] == models.START and row[-1] == models.END
        assert all(3 < token < 1999 for token in row[1:-1])
    batch = reference.padded(examples[:8])
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (8, 128)
    assert torch.equal(batch["input_ids"] == models.PAD, batch["attention_mask"] == 0)
    assert torch.equal(batch["attention_mask"].sum(1), lengths[:8].long())


def test_text_is_masked_at_the_given_rates():
    examples = models.blocks("mini", 200)
    batch = models.masked_batch(examples, "mini")
    tokens = torch.tensor([example["input_ids"] for example in examples])
    chosen = batch["labels"] != -100
    assert torch.equal(batch["labels"][chosen], tokens[chosen])
    assert torch.equal(batch["input_ids"][~chosen], tokens[~chosen])
    assert float(chosen.float().mean()) == pytest.approx(0.15, abs=0.01)
    inputs, labels = batch["input_ids"][chosen], batch["labels"][chosen]
    assert float((inputs == 31_999).float().mean()) == pytest.approx(0.8, abs=0.02)
    assert float((inputs == labels).float().mean()) == pytest.approx(0.1, abs=0.02)
    distinct = [len(set(tokens[i : i + 8].flatten().tolist())) for i in range(0, 200, 8)]
    assert 600 < sum(distinct) / len(distinct) < 1000


def test_equal_seeds_give_equal_models_and_data_whatever_else_is_drawn():
    first = snapshot(language_model()), small_batches(2)
    torch.rand(7)
    second = snapshot(language_model()), small_batches(2)
    assert differing(first[0], second[0]) == set()
    for one, other in zip(first[1], second[1], strict=True):
        assert differing(one, other) == set()
    assert not torch.equal(first[1][0]["input_ids"], first[1][1]["input_ids"])


def test_contestants_take_turns_and_warm_up_untimed():
    now, calls = 0.0, []

    def maker(name, costs):
        costs = iter(costs)

        def step():
            nonlocal now
            calls.append(name)
            now += next(costs)

        return lambda: step

    makers = {"a": maker("a", [100, 100, 2, 2, 8, 8]), "b": maker("b", [50, 50, 1, 1, 4, 4])}
    a, b = measure.compare(makers, rounds=2, steps=2, warmup=2, clock=lambda: now)
    assert "".join(calls) == "aabb" + "aabb" * 2
    assert (a.rounds, b.rounds) == ([2, 8], [1, 4])
    assert (a.seconds, b.seconds, b.ratio(a)) == (5, 2.5, 2)
    assert (a.warmup, b.warmup) == (200, 100)
    assert "2.00" in measure.table([a, b]).splitlines()[2]


def test_peak_memory_includes_what_has_been_freed():
    memory = measure.Memory()
    memory.reset()
    torch.ones(64 * measure.MIB // 4, device="cuda" if torch.cuda.is_available() else "cpu")
    assert 48 <= memory.peak() / measure.MIB <= 160


def test_the_reference_refuses_tf32():
    trainer = reference.Reference(language_model())
    torch.set_float32_matmul_precision("high")
    try:
        with pytest.raises(RuntimeError, match="TF32"):
            trainer.step(small_batches(1)[0])
    finally:
        torch.set_float32_matmul_precision("highest")


def test_the_reference_runs_as_a_script(capsys):
    common = "--size tiny --batch 2 --rounds 1 --steps 1 --warmup 1".split()
    reference.main([*common, "--length", "16"])
    reference.main([*common, "--target", "task", "--phase", "sparse", "--micro-batches", "2"])
    printed = capsys.readouterr().out
    assert printed.count("s/step") == 2 and "full" in printed and "torch" in printed


def test_the_engine_waits_before_each_step(monkeypatch):
    case = training.Case("tiny", "language", "full", 2, 16)
    stepwise = training.Stepwise(lambda before_step: case.fit(before_step, training.engine_of([])))
    begun = []
    begin = Passes.step
    monkeypatch.setattr(Passes, "step", lambda *a: begun.append(1) or begin(*a))
    thread = threading.Thread(target=stepwise.run)
    thread.start()
    stepwise.ready()
    assert len(begun) == 0
    stepwise()
    stepwise()
    assert len(begun) == 2
    stepwise.close()
    thread.join(timeout=60)
    assert not thread.is_alive() and len(begun) == 2


def test_a_contestant_that_fails_raises_its_error_and_nothing_hangs():
    def fit(before_step):
        before_step(0)
        raise ValueError("no such thing\nat all")

    with pytest.raises(RuntimeError, match="ValueError: no such thing"):
        training.compare({"plain": lambda: lambda: None}, "engine", fit, rounds=1, steps=1)


@pytest.mark.parametrize("target", ["language", "task"])
def test_the_engine_gets_the_plain_loops_examples(target):
    case = training.Case("tiny", target, "sparse", 4, 32)
    objective = case.objective()
    assert len(objective) == 64
    found = objective.examples(range(64), seed=0)
    if target == "task":
        expected = models.task_examples("tiny", 64)
        for one, other in zip(found, expected, strict=True):
            assert one["input_ids"].tolist() == other["input_ids"]
            assert int(one["labels"]) == other["labels"]
    else:
        for one, other in zip(found, models.blocks("tiny", 64, 32), strict=True):
            kept = one["labels"] == -100
            assert torch.equal(one["input_ids"][kept], torch.tensor(other["input_ids"])[kept])
        changed = torch.cat([e["input_ids"][e["labels"] != -100] for e in found])
        assert float((changed == 1999).float().mean()) == pytest.approx(0.8, abs=0.1)
    assert len(case.mask()) > 0


@pytest.mark.rounding
def test_the_dense_contestant_ends_with_the_engines_weights():
    """Up to rounding: both contestants do the same computation."""
    case = training.Case("tiny", "language", "sparse", 2, 16)
    ends = []
    for fit in (case.fit, case.fit_dense):
        model = language_model(**NO_DROPOUT).double()
        held = unittest.mock.patch.object(training.Case, "model", lambda self, model=model: model)
        window = profile.Window(0, 3, lambda: None)
        with held, contextlib.suppress(training.EnoughError):
            fit(window.before_step, training.engine_of([]))
        ends.append(snapshot(model))
    start = snapshot(language_model().double())
    assert_close(*ends)
    assert differing(ends[0], start)


def test_engine_settings_are_read_from_the_command_line():
    engine = training.engine_of(["precision=bf16", "compile=true", "devices=2"])
    assert (engine.precision, engine.compile, engine.devices) == ("bf16", True, 2)
    assert training.engine_of(["compile=max-autotune"]).compile == "max-autotune"
    assert training.name_of(training.engine_of(["compile=false"])) == "engine compile=False"


def test_the_engine_is_timed_as_a_script_and_a_failure_is_a_row(capsys, monkeypatch):
    common = "--size tiny --batch 2 --rounds 1 --steps 1 --warmup 1".split()
    bad = {"precision": "fp32", "compile": "max-autotune"}
    monkeypatch.setattr(training, "VARIANTS", (training.VARIANTS[0], bad, training.VARIANTS[1]))
    fit = training.Case.fit

    def failing(self, before_step, engine):
        if engine.compile == "max-autotune":
            raise RuntimeError("cannot compile")
        fit(self, before_step, engine)

    monkeypatch.setattr(training.Case, "fit", failing)
    training.main([*common, "--length", "16", "--variants", "--phase", "sparse"])
    printed = capsys.readouterr().out
    assert "compile=max-autotune: failed: RuntimeError: cannot compile" in printed
    assert "reference" in printed and "precision=bf16" in printed
    training.main([*common, "--length", "16", "--phase", "sparse", "--against", "dense"])
    training.main([*common, "--target", "task", "--phase", "full", "--cpu-time"])
    printed = capsys.readouterr().out
    assert "dense engine" in printed and printed.count("s/step") == 2


def test_profiles_and_passes_run_as_scripts(capsys):
    common = "--size tiny --batch 2 --length 16 --phase sparse".split()
    profile.main([*common, "--steps", "2", "--warmup", "1"])
    printed = capsys.readouterr().out
    assert "matrix products" in printed and "the loop" in printed
    profile.main([*common, "--steps", "2", "--warmup", "1", "--python"])
    assert "passes.py" in capsys.readouterr().out
    passes.main([*common, "--rounds", "1"])
    assert "a pass, which is" in capsys.readouterr().out


def test_every_way_of_tokenising_gives_a_training_the_same_examples(base, tmp_path):
    tokens.prepare(tmp_path, base.folder, 40)
    tokens.run("tokens", tmp_path)
    plain, *others = (
        tokens.objective_of(way, tmp_path, base).examples(range(40), 0)
        for way in ("dictionaries", "in memory", "mapped")
    )
    for examples in others:
        for one, other in zip(examples, plain, strict=True):
            assert differing(one, other) == set()


ABSENT = ("snakemake", "datasets", "peft", "rapidfuzz", "jinja2", "tabulate", "requests")
"""What a machine that only trains may lack."""

WITHOUT = f"""
import sys
sys.modules.update(dict.fromkeys({ABSENT}))
from benchmarks import gpu
for part in ("decoder", "full", "sparse", "plain", "mask", "denoise"):
    gpu.child(part, dry=True)
"""


def results_of(printed):
    """What was measured, by part; `printed` has only JSON."""
    found = {}
    for line in map(json.loads, printed.splitlines()):
        figures = {name: v for name, v in line.items() if name.endswith(("_ms", "_s"))}
        assert all(value >= 0 for value in figures.values()), line
        found.setdefault(line["part"], {})[line["what"]] = line
    return found


def test_a_gpu_is_measured_with_what_training_needs_and_no_more(simulated):
    """On a simulated GPU, if this is possible here."""
    begin = simulated + simulated_gpu.BEGIN if simulated else ""
    done = subprocess.run(
        [sys.executable, "-c", begin + WITHOUT],
        cwd=PROJECT,
        env={**os.environ, **gpu.DRY},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = results_of(done.stdout)
    assert found["decoder"].keys() == {"products", "the engine's loss", "the plain loss"}
    assert found["decoder"]["products"]["slices_16_relative_error"] < 0.01
    for phase in ("full", "sparse"):
        assert found[phase].keys() == {f"start, {phase}", f"engine, {phase}"}
        assert found["plain"][f"plain, {phase}"]["step_ms"] > 0
        start = found[phase][f"start, {phase}"]
        assert start["device"] == ("a simulated GPU" if simulated else "cpu")
        assert start["start_s"] > start["import_torch_s"] > 0
        assert start["20_steps_s"] > start["first_step_s"] > 0
    assert found["mask"]["top K, task"]["s"] > 0 and found["denoise"]["all matrices"]["s"] > 0


def test_each_other_part_of_the_gpus_measurements_runs_dry(capsys):
    done = {"decoder", "full", "sparse", "plain", "mask", "denoise", "share"}
    for part in gpu.PARTS.keys() - done:
        gpu.child(part, dry=True)
    gpu.child("full:precision=fp8", dry=True)
    found = results_of(capsys.readouterr().out)
    assert all("skipped" in found.pop(part)["nothing"] for part in ("tests", "plain-compiled"))
    assert found["profile"]["full"]["kernels"] > found["profile"]["sparse"]["kernels"] > 100
    assert found["sparse-eager"].keys() == {"start, sparse", "engine, sparse"}
    assert found["large"].keys() == {
        f"{what}, {phase}" for what in ("start", "engine") for phase in ("full", "sparse")
    }
    assert "engine, sparse, batch 32" in found["task"]
    assert "precision" in found["full:precision=fp8"]["full failed"]["error"]


def test_parts_run_in_processes_of_their_own_which_are_killed_when_they_take_too_long(capsys):
    gpu.main(["--dry", "share", "sparse", "--seconds", "sparse=1.1"])
    *printed, table = capsys.readouterr().out.partition("share          start")
    found = results_of(printed[0])
    assert found["share"]["2 at once"]["times_one"] > 0 and "error" not in found["share"]["end"]
    assert found["sparse"]["end"]["error"] == "killed after 1 s"
    assert "2 at once" in table and "killed" in table
    gpu.main(["--dry", "sparse", "--within", "1"])
    assert "no time left" in capsys.readouterr().out
    gpu.main(["--dry", "--together", "sparse-eager", "tests"])
    assert results_of(capsys.readouterr().out).keys() == {"sparse-eager", "tests"}
    with pytest.raises(SystemExit):
        gpu.main(["no such part"])


def test_operators_are_grouped_by_name():
    groups = {
        "aten::mm": "matrix products",
        "aten::_softmax": "attention",
        "aten::_log_softmax": "loss",
        "aten::bernoulli_": "dropout, random numbers",
        "void flash_fwd_kernel<...>": "attention",
        "aten::_foreach_add_": "optimiser",
        "aten::as_strided": "other",
    }
    assert {name: profile.group(name) for name in groups} == groups


def test_a_cold_training_ends_after_its_first_step_and_all_its_time_is_in_a_column(
    base_folder, tmp_path
):
    train, out = tmp_path / "train.parquet", tmp_path / "model.safetensors"
    write_items(train, [{"id": str(i), "text": line} for i, line in enumerate(sentences(60))])
    language = {"learning_rate": 0.01, "batch_size": 8, "max_steps": 9, "max_length": 16}
    params = json.dumps({"target": "lang-qaa", "language": language})
    command = ["full", "--params", params, "--base", str(base_folder), "--train", str(train)]
    found = start.measured([*command, "--out", str(out)], tmp_path)
    assert not out.exists()
    assert all(found[name] > 0 for name in ("model", "data", "step", "import torch", "exit"))
    columns = start.in_parts(found)
    assert min(columns[part] for part in start.PARTS) > 0
    assert columns["until then"] == pytest.approx(sum(columns[part] for part in start.PARTS))
    assert columns["until then"] + columns["exit"] == pytest.approx(
        sum(found.values()) - found["wall"]
    )


def test_a_span_inside_another_one_counts_for_itself_alone(monkeypatch):
    monkeypatch.setattr(start.time, "process_time", iter([0, 1, 3, 7]).__next__)
    clock = start.Clock()
    with clock.span("outer"), clock.span("inner"):
        pass
    assert clock.seconds == {"inner": 2, "outer": 5}
