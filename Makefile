# The targets that scripts rely on. `make help` lists them.

GO       ?= go
VERSION  ?= $(shell git describe --always --dirty 2>/dev/null || echo unknown)
LDFLAGS  := -X main.version=$(VERSION)
GO_FILES := $(shell find ingestor loadgen scenarios results crashtest internal proto -name '*.go' -o -name '*.sql' -o -name '*.yaml' -o -name '*.json' -o -name '*.html' 2>/dev/null)
VENV     := .venv
FUZZTIME ?= 30s

.PHONY: help build test bench bench-wal bench-stages bench-hot bench-sustained run up lint fuzz crashtest crashtest-long mutants generate verify-generated vuln container clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: bin/ingestion-server bin/bench ## bin/ingestion-server and bin/bench

# The server is static: it is the whole content of its container image.
bin/ingestion-server: go.mod go.sum $(GO_FILES)
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $@ ./ingestor/cmd/ingestion-server

bin/bench: go.mod go.sum $(GO_FILES)
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $@ ./loadgen/cmd/bench

test: build $(VENV)/ready ## all tests: unit, integration, crash tests, Python client
	scripts/test

bench: build ## the default scenarios against a server of their own; exit 0 only if every objective is met
	bin/bench run

bench-hot: build ## the performance targets against the ceilings of this machine, as a table; 45 minutes, 25 GB of disk
	bin/bench run --set hot

bench-sustained: build ## the targets that take ten minutes of load; half an hour, 40 GB of disk
	bin/bench run --set sustained

bench-wal: ## the log alone beside the raw disk, Pebble, etcd and raft-wal, in one run
	cd ingestor/walpeers && $(GO) run . -rounds 5 -time 1s

STAGES := Validate|GetRelease|AppendSync|Replay|Insert|Submit|Batch|Recovery|WriteStream|Flush

bench-stages: ## Go benchmarks of each stage: time, bytes and allocations
	$(GO) test -run '^$$' -bench '^Benchmark($(STAGES))$$' -benchtime 300ms $(addprefix ./ingestor/internal/,batch slab wal \
		storage/memtable services/ingestion processor api/ingestion storage/parquetfile)

run: build ## a server for development with an API key that it prints
	scripts/run

up: ## TimescaleDB and the server in containers
	docker compose up --build

lint: ## golangci-lint, go vet, gofmt, with the import rules
	$(GO) vet ./...
	GOWORK=off $(GO) tool -modfile=tools/lint/go.mod golangci-lint run ./...
	$(MAKE) $(VENV)/ready
	cd clients/python && ../../$(VENV)/bin/mypy && ../../$(VENV)/bin/ruff check && ../../$(VENV)/bin/ruff format --check

fuzz: ## every fuzz target for FUZZTIME each
	scripts/fuzz $(FUZZTIME)

crashtest: build ## the crash tests alone, as `make test` runs them, with their table
	scripts/crashtest gate

crashtest-long: build ## the crash tests for hours: 100 times and more of what `make crashtest` explores
	scripts/crashtest long

mutants: ## judge the judge: plant deliberate mistakes in the server, each of which some test must notice; 40 minutes
	$(GO) run ./crashtest/mutants/cmd/mutants

generate: ## protobuf code for Go and Python
	cd proto && $(GO) tool -modfile=../tools/go.mod buf generate
	$(MAKE) $(VENV)/ready
	$(VENV)/bin/python clients/python/scripts/generate_proto.py

verify-generated: ## prove that the generated code is current, and lint the protocol
	scripts/verify-generated

vuln: ## known vulnerabilities in what is built (needs the vulnerability database)
	$(GO) tool -modfile=tools/go.mod govulncheck ./...

container: build ## the image "ingestor" from bin/ingestion-server; pulls nothing
	docker build --target prebuilt -t ingestor .

$(VENV)/ready: clients/python/pyproject.toml
	scripts/python-venv $(VENV)
	touch $@

clean: ## remove what the targets made
	rm -rf bin $(VENV) .data results/local
