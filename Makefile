# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Where the CPU build of torch comes from.  Set TORCH_INDEX= (empty) where the default index has one.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
TORCH := torch==$(shell sed -n 's/^torch==//p' constraints.txt)
UPSTREAM ?= https://api.openai.com/v1
WORKERS ?= 2

# Where what we are compared with lives, each in an environment of its own.
PEERS ?= $(or $(LACONIC_PEERS),.peers)

# Where other people's clients live, each in an environment of its own.
CLIENTS ?= $(or $(LACONIC_CLIENTS),.clients)

# The tests of what is pure: values, wire, policies, tokens, settings, tagging, compression.
PURE := $(wildcard tests/test_wire_*.py tests/test_policy_*.py tests/test_compress_*.py tests/test_tokens_*.py) \
	proxy/types.py proxy/errors.py proxy/digests.py proxy/settings.py \
	$(wildcard proxy/wire proxy/policy proxy/tokens proxy/tagging proxy/compress) \
	$(addprefix tests/test_,benchmarks_tagging.py laws.py reference.py reference_llmlingua.py settings.py tagging.py tokens.py tool_results.py)

# Seconds for each target of `make fuzz`.
FUZZ_S ?= 60

.PHONY: demo serve test test-clients check format fuzz coverage mutate test-schema bench bench-peers clean

define install_torch
	$(1)/bin/pip install --quiet --retries 0 $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) $(TORCH)+cpu \
		|| $(1)/bin/pip install --quiet $(TORCH)
endef

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(call install_torch,$(VENV))
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(VENV)/.installed ## the main job, offline: SDK -> proxy -> embedded upstream
	$(BIN)/laconic demo

serve: $(VENV)/.installed ## the proxy in front of $(UPSTREAM)
	$(BIN)/laconic serve --upstream $(UPSTREAM)

test: $(VENV)/.installed
	$(BIN)/pytest -q -n $(WORKERS)

test-clients: $(VENV)/.installed $(foreach client,langchain llamaindex pydantic-ai agents instructor litellm node serving,$(CLIENTS)/$(client)/.installed) ## every client, directly and through the proxy; writes the table of docs/clients.md
	LACONIC_CLIENTS=$(CLIENTS) $(BIN)/pytest -q tests/clients

$(CLIENTS)/node/.installed: tests/clients/node/package.json tests/clients/node/package-lock.json
	mkdir -p $(@D)
	cp $^ $(@D)
	npm ci --silent --prefix $(@D)
	touch $@

# What `transformers serve` needs beside what is in our own environment.
$(CLIENTS)/serving/.installed: tests/clients/serving.txt $(VENV)/.installed
	$(BIN)/pip install --quiet --no-deps --target $(@D) --requirement $<
	touch $@

# $(CLIENTS)/llama-cpp/.installed is made on request alone: it compiles for minutes.
$(CLIENTS)/%/.installed: tests/clients/%.txt
	$(PYTHON) -m venv $(CLIENTS)/$*
	$(CLIENTS)/$*/bin/pip install --quiet --requirement $<
	touch $@

check: $(VENV)/.installed ## format, lint, types, import floors
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest -q tests/test_floors.py tests/test_docs.py

format: $(VENV)/.installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.installed ## figures; the data folder comes from LACONIC_DATA
	$(BIN)/python benchmarks/all.py

bench-peers: $(foreach peer,llmlingua litellm headroom,$(PEERS)/$(peer)/.installed) ## what some benchmarks compare with; never in our own environment

$(PEERS)/%/.installed: benchmarks/peers/%.txt constraints.txt
	$(PYTHON) -m venv $(PEERS)/$*
	$(if $(filter llmlingua,$*),$(call install_torch,$(PEERS)/$*))
	$(PEERS)/$*/bin/pip install --quiet --requirement benchmarks/peers/$*.txt
	touch $@

coverage: $(VENV)/.installed ## every branch of the pure floors (0-2) is taken by a test, or this fails
	$(BIN)/coverage run -m pytest -q -p no:cacheprovider --hypothesis-seed=0 $(PURE)
	$(BIN)/coverage report

mutate: .mutate/.installed ## changes to what splices and to what holds spans: a test notices each, or this fails
	rm -rf mutants
	PYTHONPATH=.mutate $(BIN)/python tests/mutate/run.py --max-children $(WORKERS)

.mutate/.installed: tests/mutate/requirements.txt constraints.txt $(VENV)/.installed
	$(BIN)/pip install --quiet --constraint constraints.txt --target .mutate --upgrade --requirement tests/mutate/requirements.txt
	touch $@

test-schema: .schema/.installed ## SPEC=path: requests made up from an OpenAPI specification, directly and through the proxy
	PYTHONPATH=.:tests:.schema $(BIN)/python tests/schema/run.py $(SPEC)

.schema/.installed: tests/schema/requirements.txt constraints.txt $(VENV)/.installed
	$(BIN)/pip install --quiet --constraint constraints.txt --target .schema --upgrade --requirement tests/schema/requirements.txt
	touch $@

fuzz: .fuzz/.installed ## the wire format under inputs that coverage guides; what fails is kept as a test
	for target in scanner beginnings splices events usage encodings headers; do \
		PYTHONPATH=. .fuzz/bin/python tests/fuzz/run.py $$target --seconds $(FUZZ_S) || exit 1; \
	done

.fuzz/.installed: tests/fuzz/requirements.txt constraints.txt
	$(PYTHON) -m venv .fuzz
	.fuzz/bin/pip install --quiet --constraint constraints.txt --requirement tests/fuzz/requirements.txt
	touch $@

clean:
	rm -rf .fuzz .mutate .schema mutants $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
