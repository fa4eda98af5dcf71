# fewlabels: `make` prints what there is. Everything runs in .venv, which the first target that needs it sets up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SCALE ?= paper
JOBS ?= 1
SEEDS ?= 0
DATA ?= $(if $(FEWLABELS_DATA),$(FEWLABELS_DATA),data)
OUT ?= outputs
ARGS ?=
RUNS ?= $(OUT)
TABLES := $(filter-out demo,$(basename $(notdir $(wildcard conf/table/*.yaml))))

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slurm lint tables report evidence audit bench profile docs kills publish wandb-upload clean $(addprefix table-,$(TABLES))

help: ## Print the targets
	@grep -hE '^[a-z%-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'
	@echo "  make table-ID   Run what a table lacks, then print it: $(TABLES)"
	@echo "                  SCALE=paper|proxy|smoke JOBS=n|auto SEEDS=0,1,2 BUDGET=minutes DATA=folder ARGS='key=value ...'"

setup: $(VENV)/.ready ## Virtual environment with the pinned dependencies

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) scripts/check_python.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[report,parallel,ray,slurm,tensorboard,mlflow,search,heic,onnx,docs,dev]'
	touch $@

demo: setup ## Five methods on scikit-learn's digits, then the table, the page, and labels for ten digits
	$(BIN)/python -m fewlabels.train table=demo output_root=$(OUT) hydra/launcher=joblib hydra.launcher.n_jobs=2
	$(BIN)/python -m fewlabels.report $(OUT) --to $(OUT)/report --table demo
	$(BIN)/python scripts/demo_predictions.py $(OUT)

test: setup ## All tests
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal

test-slurm: setup ## The tests of jobs on Slurm, on a Slurm of one node that this starts and stops: as root, on Debian
	scripts/slurm_for_tests.sh start
	@$(BIN)/python -m pytest tests/launch/test_slurm.py; code=$$?; scripts/slurm_for_tests.sh stop; exit $$code

lint: setup ## Formatting, lints and types
	$(BIN)/ruff format --check src tests scripts
	$(BIN)/ruff check src tests scripts
	$(BIN)/mypy

tables: setup ## Every table with its cells, how many are done, and what the rest would cost here
	$(BIN)/python -m fewlabels.benchmark.estimate $(OUT)

report: setup ## Tables, figures and one page from all records
	$(BIN)/python -m fewlabels.report $(OUT) --to $(OUT)/report

evidence: setup ## How far each table has run, each claim with its verdict and what would change it, and the audit
	@$(BIN)/python -m fewlabels.report $(OUT) --evidence

audit: setup ## The reported tables against themselves and their own text
	$(BIN)/python -m fewlabels.report --audit

kills: setup ## Kill every method a dozen times, and a sweep of 200 runs at every tenth: what is lost?
	$(BIN)/python -W ignore -m tests.kills --kills 12 --sweep 200

bench: setup ## Training speed beside its limit and beside a pipeline of one image at a time
	$(BIN)/python -m fewlabels.benchmark.throughput --to outputs/published/bench $(ARGS)

profile: setup ## A trace of five training steps; ARGS="method=... model=..."
	$(BIN)/python -m fewlabels.benchmark.profile --to build/trace.json $(ARGS)

docs: setup ## The documentation as a site in build/docs; a broken link fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

publish: setup ## Records of finished cells and their tables to outputs/published/, which git keeps
	$(BIN)/python scripts/publish.py $(OUT)
	$(BIN)/python -m fewlabels.report $(OUT)/published --to $(OUT)/published/report

wandb-upload: setup ## Finished runs that were trained without W&B to W&B: RUNS="folder ..."
	$(BIN)/python -m fewlabels.upload $(RUNS)

# The table is printed whether or not a cell failed; the exit code is the sweep's. All tables of one call share the budget:
# it counts from here, by the clock that nobody sets.
STARTED := $(if $(BUDGET),$(shell $(PYTHON) -c 'import time; print(time.monotonic())'))
$(addprefix table-,$(TABLES)): table-%: setup
	@exec env $(if $(STARTED),FEWLABELS_STARTED=$(STARTED)) FEWLABELS_DATA='$(DATA)' $(BIN)/python scripts/run_table.py $* $(OUT) \
	  scale=$(SCALE) 'seed=$(SEEDS)' hydra/launcher=joblib hydra.launcher.n_jobs=$(JOBS) \
	  $(if $(BUDGET),budget_minutes=$(BUDGET)) $(ARGS)

table-bansal_transfer: table-bansal_pretrain

clean: ## Remove the virtual environment and caches; runs stay
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache dist
