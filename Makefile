# The habits of this project; `make help` lists them.

TORCH  ?= torch
VENV   ?= .venv
PYTHON ?= python3
DROPIN ?= .venv-dropin

BIN := $(VENV)/bin
JOBS := $(shell nproc)
CPP_BUILD   ?= build/cpp
# Each of pytest's workers is a process with PyTorch in it.
WORKERS     := --numprocesses auto --maxprocesses 4 --dist worksteal
PLATFORM    ?= manylinux_2_28_x86_64
CMAKE_FLAGS ?= -DVAE_FAST_WERROR=$(if $(VAE_FAST_WERROR),ON,OFF)

.DEFAULT_GOAL := help
.PHONY: help setup build demo test test-cpp test-sanitizers test-exhaustive bench bench-against lint format clean
.PHONY: attack-asan bench-history cuda-check cuda-table docs theory gpu wheel wheel-cuda sdist test-dropin

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'
	@echo
	@echo "  TORCH=torch==2.13.0   another PyTorch than the newest;  VENV=DIR  another environment than .venv"

# PyTorch first and by itself: the extension is built against the one that is there.
$(VENV)/torch.stamp:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet "$(TORCH)" ninja
	touch $@

$(VENV)/setup.stamp: $(VENV)/torch.stamp pyproject.toml setup.py
	VAE_FAST_EXTENSION=0 $(BIN)/pip install --quiet --no-build-isolation --editable ".[test,lint]"
	touch $@

setup: $(VENV)/setup.stamp ## a virtual environment with PyTorch, the built package and the tools

build: $(VENV)/setup.stamp ## compile what has changed
	$(BIN)/python setup.py --quiet build_ext --inplace

demo: build ## train a VAE and an auto-encoder on handwritten digits; pictures in runs/demo
	$(BIN)/vae-fast demo --out runs/demo

# One after another: each uses all cores. Of MNIST where VAE_FAST_DATA is set, as the page's are.
THEORY := generate mixture intractable gap gradients linear published
theory: build ## the figures of docs/theory.md and their numbers, by examples/theory: some ten minutes
	for script in $(THEORY); do \
	  $(BIN)/python examples/theory/$$script.py --out docs/images/theory --numbers docs/figures/theory.json || exit 1; \
	done

test: build ## the whole test suite
	$(BIN)/python -m pytest $(WORKERS) $(PYTEST_ARGS)

# An environment of its own: with the peers, and the torch that the extension was built for.
BUILT_FOR = $(shell $(BIN)/pip freeze | sed -n 's/^\(torch==[^+]*\).*/\1/p')
$(DROPIN)/peers.stamp: tests/dropin/requirements.txt $(VENV)/setup.stamp
	$(MAKE) $(DROPIN)/torch.stamp VENV=$(DROPIN) TORCH=$(BUILT_FOR)
	VAE_FAST_EXTENSION=0 $(DROPIN)/bin/pip install --quiet --no-compile --no-build-isolation --editable . -r $< $(BUILT_FOR)
	$(DROPIN)/bin/pip install --quiet --no-deps "multivae>=1.0.3"
	touch $@

# By their names, which pytest does not look for: `make test` has no peers.
test-dropin: build $(DROPIN)/peers.stamp ## the drop-ins: other packages' models trained with and without
	$(DROPIN)/bin/python -m pytest -o addopts=--strict-markers tests/dropin/proof_*.py $(PYTEST_ARGS)

test-cpp: ## the torch-free core alone, under CTest
	cmake -S . -B $(CPP_BUILD) -DCMAKE_BUILD_TYPE=Release $(CMAKE_FLAGS)
	cmake --build $(CPP_BUILD) --parallel $(JOBS)
	ctest --test-dir $(CPP_BUILD) --output-on-failure -LE 'exhaustive|cuda'

test-sanitizers: ## the core under AddressSanitizer + UndefinedBehaviorSanitizer, then ThreadSanitizer
	$(MAKE) sanitize SANITIZE=address,undefined
	$(MAKE) sanitize SANITIZE=thread

.PHONY: sanitize
sanitize:
	cmake -S . -B build/$(SANITIZE) -DCMAKE_BUILD_TYPE=RelWithDebInfo -DVAE_FAST_SANITIZE=$(SANITIZE) $(CMAKE_FLAGS)
	cmake --build build/$(SANITIZE) --parallel $(JOBS)
	setarch -R ctest --test-dir build/$(SANITIZE) --output-on-failure -LE 'exhaustive|cuda'

# The C++ library beside the sanitizer's, which must find its throw; what is gigantic is refused.
attack-asan: $(VENV)/setup.stamp ## the attacks on files and command lines, the extension under AddressSanitizer
	CFLAGS="-fsanitize=address -fno-omit-frame-pointer" LDFLAGS=-fsanitize=address \
	  $(BIN)/python setup.py --quiet build --build-base build/asan --build-lib build/asan/lib
	LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libstdc++.so)" \
	  ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 PYTHONSAFEPATH=1 \
	  PYTHONPATH=$(abspath build/asan/lib):$(CURDIR) $(BIN)/python -m tests.attack $(ATTACKS)

test-exhaustive: ## every one-argument function on all 2^32 floats (minutes)
	cmake -S . -B $(CPP_BUILD) -DCMAKE_BUILD_TYPE=Release $(CMAKE_FLAGS)
	cmake --build $(CPP_BUILD) --parallel $(JOBS)
	ctest --test-dir $(CPP_BUILD) --verbose -L exhaustive

bench: build ## eager, torch.compile and vae_fast side by side, with the machine's copy bandwidth
	$(BIN)/python -m pytest benchmarks --benchmark-enable --benchmark-only $(PYTEST_ARGS)

bench-against: build ## this tree and REV=commit side by side; BENCH_ARGS="--only TEXT --seconds N"
	@test -n "$(REV)" || { echo 'which commit? make bench-against REV=main'; exit 2; }
	$(BIN)/python -m benchmarks.against "$(REV)" $(BENCH_ARGS)

bench-history: build ## measure this commit, and append its figures to docs/figures/history.jsonl
	$(BIN)/vae-fast bench --only kernel --out build/bench
	$(BIN)/python -m benchmarks.history build/bench/bench.json

$(VENV)/docs.stamp: $(VENV)/setup.stamp
	VAE_FAST_EXTENSION=0 $(BIN)/pip install --quiet --no-build-isolation --editable ".[docs]"
	touch $@

runs/demo/latent.png:
	$(MAKE) demo

# Pages that are gone would stay among the sources and in the output.
docs: build $(VENV)/docs.stamp runs/demo/latent.png ## the documentation site, in build/site; its links and examples checked
	rm -rf build/site docs/api
	$(BIN)/python -m sphinx --quiet -W --keep-going -n -b html -d build/doctrees docs build/site
	$(BIN)/python -m pytest tests/documentation/check_site.py

# What has CUDA wants the build of PyTorch that has it, and an error where a piece is missing.
cuda-check cuda-table gpu: export VAE_FAST_CUDA := 1
cuda-check cuda-table gpu: TORCH := torch==2.14.1

$(VENV)/cuda.stamp: $(VENV)/setup.stamp
	VAE_FAST_EXTENSION=0 $(BIN)/pip install --quiet --no-build-isolation --editable ".[cuda-check]"
	touch $@

cuda-check: build $(VENV)/cuda.stamp ## CUDA without a GPU: kernels and bindings emulated, and the machine code
	$(BIN)/python -m pytest tests/test_build.py tests/cuda_gates $(PYTEST_ARGS)
	cmake -S . -B $(CPP_BUILD) -DCMAKE_BUILD_TYPE=Release $(CMAKE_FLAGS) \
	  -DPython3_EXECUTABLE=$(abspath $(BIN)/python)
	cmake --build $(CPP_BUILD) --parallel $(JOBS)
	ctest --test-dir $(CPP_BUILD) --output-on-failure --parallel 2 -L cuda

cuda-table: build $(VENV)/cuda.stamp ## store the machine code's figures, and show them in docs/cuda.md
	$(BIN)/python -m tests.cuda_gates.measure

gpu: ## on a machine with a GPU: all tests there, compute-sanitizer, benchmarks; a report in docs/gpu
	@$(PYTHON) tests/gpu/present.py
	$(MAKE) build TORCH=$(TORCH)
	$(BIN)/python tests/gpu/report.py

WHEEL_TOOLS := build/wheel-tools
$(WHEEL_TOOLS)/setup.stamp: build_tools/requirements.txt
	$(PYTHON) -m venv $(WHEEL_TOOLS)
	$(WHEEL_TOOLS)/bin/pip install --quiet -r $<
	touch $@

# Without the CUDA kernels, which are a wheel of their own (docs/decisions.md).
wheel: $(VENV)/setup.stamp $(WHEEL_TOOLS)/setup.stamp ## dist/*.whl, of this PyTorch and those of the WHEELS that others built
	rm -rf build/wheels/this build/lib*  # setuptools packs what earlier builds left there
	VAE_FAST_CUDA=0 $(BIN)/pip wheel --quiet --no-build-isolation --no-deps --wheel-dir build/wheels/this .
	$(WHEEL_TOOLS)/bin/python -m build_tools.wheel --platform $(PLATFORM) build/wheels/this/*.whl $(WHEELS)

CUDA_OF_TORCH = $(shell $(BIN)/python -c "import torch; print(torch.version.cuda.split('.')[0])")
wheel-cuda: export VAE_FAST_CUDA := 1
wheel-cuda: $(VENV)/setup.stamp $(WHEEL_TOOLS)/setup.stamp ## dist/*.whl of the CUDA kernels alone, for every torch of this one's CUDA
	$(BIN)/python setup.py --quiet build_ext --inplace
	$(WHEEL_TOOLS)/bin/python -m build_tools.cuda_wheel --cuda $(CUDA_OF_TORCH) --platform $(PLATFORM) vae_fast/_cuda.so

sdist: $(WHEEL_TOOLS)/setup.stamp ## dist/*.tar.gz, the sources
	VAE_FAST_EXTENSION=0 $(WHEEL_TOOLS)/bin/python -m build --sdist --no-isolation --skip-dependency-check

lint: $(VENV)/setup.stamp ## ruff, mypy, clang-format
	$(BIN)/python -m build_tools.stub
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $$(git ls-files '*.h' '*.cpp' '*.cuh' '*.cu')

format: $(VENV)/setup.stamp ## let the formatters write
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $$(git ls-files '*.h' '*.cpp' '*.cuh' '*.cu')

clean: ## forget every build, keep the environment
	rm -rf build dist *.egg-info vae_fast/*.so
