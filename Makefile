# make demo    finetune a reranker and watch it reorder lists, nothing but this machine needed (two to eight minutes)
# make real    train and evaluate on the Amazon Beauty search lists in $(DATA) (within an hour on two cores)
# make test    every check and every test
# make bench NAME=train_step    one benchmark, into benchmarks/results (benchmarks/README.md lists them)
# make quality NAME=beauty_search    how good the order is, beside every other system (benchmarks/QUALITY.md)
# make check   static checks and the documentation        make docs   docs/ as pages, in site/
# make clean   remove the environment and caches; runs/ stays
#
# Each sets up .venv first, once. Without a GPU, and where pip does not already find a CPU build of torch:
#   make demo PIP_TORCH_ARGS="--index-url https://download.pytorch.org/whl/cpu"

PYTHON ?= python3
PIP_TORCH_ARGS ?=
DATA ?= ../shared/data
RUN := .venv/bin
BEAUTY := runs/beauty_search
NAME ?= none
# One more than there are cores: many tests wait for a server.
WORKERS ?= $(shell expr 1 + $$(getconf _NPROCESSORS_ONLN))
ARGS ?=

# Python keeps what it compiles, or each of the processes that tests start would compile the same files.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo real test tests check docs bench quality clean

demo: .venv/installed
	$(RUN)/reshelf demo

# What is finished already is not made again; `rm -r runs/beauty_search` starts over.
real: .venv/installed
	test -e $(BEAUTY)/data/report.json || $(RUN)/reshelf data import --mapping amazon_beauty_search --root $(DATA) --out $(BEAUTY)/data
	test -e $(BEAUTY)/base/config.json || $(RUN)/reshelf pretrain --config finetune/pretrain_beauty.yaml
	test -e $(BEAUTY)/model/reshelf.json || $(RUN)/reshelf finetune --config finetune/beauty_search.yaml
	$(RUN)/reshelf evaluate --config evaluation/beauty_search.yaml

# With --jobs=2 side by side; else the checks first.
test: check tests

tests: .venv/installed-dev
	OMP_NUM_THREADS=1 $(RUN)/pytest tests --data-root=$(DATA) -n $(WORKERS) --maxprocesses 4 --dist loadfile --no-loadscope-reorder --durations 30

check: .venv/installed-dev
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy
	$(RUN)/lint-imports
	NO_MKDOCS_2_WARNING=1 $(RUN)/mkdocs build

# A link or an anchor that leads nowhere is an error. The variable silences an advertisement of the theme.
docs: .venv/installed-dev
	NO_MKDOCS_2_WARNING=1 $(RUN)/mkdocs build

.venv/installed: pyproject.toml install.py
	$(PYTHON) install.py .venv --torch-args="$(PIP_TORCH_ARGS)"
	@touch $@

.venv/installed-dev: .venv/installed
	$(PYTHON) install.py .venv --dev
	@touch $@

# ARGS="--help" says what a benchmark can be asked for.
bench: .venv/installed-dev
	@test -f benchmarks/$(NAME).py || { echo "make bench needs NAME: train_step, score_list, batch, prompts, signals, logs, serving, two_tenants, fuzz, hostile, experiments, nights, long_memory, feature_dropout, feature_names, level_format, level_embeddings, data_needed, matching, quickstart, rounding or against_past" >&2; exit 2; }
	$(RUN)/python -m benchmarks.$(NAME) $(ARGS)

# DATA is the folder of the data sets, BASE a pretrained model for the rows that need one, GPU what benchmarks.gpu wrote. What is finished is not made again; `rm -r runs/quality/NAME` starts over.
quality: .venv/installed-dev
	@test -f benchmarks/quality/$(NAME).yaml || { echo "make quality needs NAME: $(basename $(notdir $(wildcard benchmarks/quality/*.yaml)))" >&2; exit 2; }
	OMP_NUM_THREADS=1 $(RUN)/python -m benchmarks.quality --name $(NAME) --root $(DATA) $(if $(BASE),--base $(BASE)) $(if $(GPU),--gpu $(GPU))

clean:
	rm -rf .venv .venv-peers site build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
