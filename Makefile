# Two commands do everything: `make demo` and `make test`. Each sets up .venv first.
# With real data `make plan` estimates a run, and `make reproduce` runs it: docs/reproduce.md.
# Another PyTorch: make demo TORCH="torch==2.13.0 <options for pip>" (see README, Installation).

PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SLURM_READY := $(VENV)/.slurm
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
SNAKEMAKE := $(BIN)/snakemake

# The config of `make plan` and `make reproduce`. ONLY selects a part: ONLY="--language grn --seed 0".
CONFIG ?= config.yaml
ONLY ?=
RUN = $(shell sed -n 's/^run: *\([^ \#]*\).*/\1/p' $(CONFIG))

.PHONY: demo demo-full plan reproduce slurm test test-cpus test-slurm lint format schema constraints clean

demo: $(READY)
	$(SNAKEMAKE) --configfile workflow/configs/demo.yaml --quiet host reason rules
	@$(SNAKEMAKE) --configfile workflow/configs/demo.yaml --report results/demo/report.html --quiet all
	@$(BIN)/deftx show results/demo

demo-full: $(READY)
	$(SNAKEMAKE) --configfile workflow/configs/demo-full.yaml --quiet host reason rules
	@$(SNAKEMAKE) --configfile workflow/configs/demo-full.yaml --report results/demo-full/report.html --quiet all
	@$(BIN)/deftx show results/demo-full

plan: $(READY)
	@$(BIN)/deftx plan $(CONFIG) $(ONLY)

# After an interruption by Ctrl-C the same command resumes.
reproduce: plan
ifeq ($(strip $(ONLY)),)
	$(SNAKEMAKE) --configfile $(CONFIG) --quiet host reason rules
	@$(SNAKEMAKE) --configfile $(CONFIG) --report results/$(RUN)/report.html --quiet all
	@$(BIN)/deftx show results/$(RUN)
else
	$(SNAKEMAKE) $$($(BIN)/deftx targets $(CONFIG) $(ONLY)) --configfile $(CONFIG) --quiet host reason rules
endif

# The same on a cluster, with the profile profiles/slurm: docs/cluster.md.
slurm: $(SLURM_READY)
	$(SNAKEMAKE) --workflow-profile profiles/slurm

test: lint
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

# Laws to rounding, as other CPUs compute and with two threads.
test-cpus: $(READY)
	DEFTX_TEST_CPUS=1 $(BIN)/pytest -n 2 tests/test_cpus.py

# Needs root and Debian's slurmctld, slurmd, slurm-client and munge; without them the tests are skipped.
test-slurm: $(SLURM_READY)
	DEFTX_TEST_SLURM=1 $(BIN)/pytest -rs tests/slurm

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check .
	$(BIN)/mypy
	$(SNAKEMAKE) --lint

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt .

schema: $(READY)
	$(BIN)/deftx schema > workflow/schemas/config.schema.json

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "deftx needs Python 3.11 or newer"'
	$(PYTHON) -m venv $(VENV)
	$(PIP) $(TORCH)
	$(PIP) -c constraints.txt -e ".[dev]"
	@touch $@

# Installed separately, because every start of Snakemake imports its plugins.
$(SLURM_READY): $(READY)
	$(PIP) -c constraints.txt -e ".[slurm]"
	@touch $@

constraints: $(SLURM_READY)
	$(BIN)/pip freeze --exclude-editable | grep -ivE '^(torch|nvidia|cuda|triton)' > constraints.txt

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache
