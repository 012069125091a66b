# Every target with a comment after ## is shown by `make help`.

VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null)
PKG       ?= ./...
TESTFLAGS ?=
FUZZTIME  ?= 60s

# The newer PostgreSQL that scripts/install-servers --test unpacks.
export BINDERY_POSTGRES_BIN ?= $(subst $() ,:,$(wildcard $(CURDIR)/.cache/postgres/*/bin))
# The OpenID provider that it installs.
export BINDERY_OIDC_MODULES ?= $(lastword $(wildcard $(CURDIR)/.cache/oidc-provider/*))

.DEFAULT_GOAL := help
.PHONY: help build run test lint fuzz bench soak servers verify clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

build: ## Build bin/bindery, a static binary
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/bindery ./cmd/bindery

run: ## Start Bindery with servers of its own, in .bindery
	@scripts/install-servers
	@$(MAKE) --no-print-directory build
	bin/bindery dev

test: ## Run all tests on real servers, with the race detector (PKG, TESTFLAGS)
	@scripts/install-servers --test
	go vet $(PKG)
	BINDERY_TEST_ALL=1 go test -race -timeout 30m $(TESTFLAGS) $(PKG)

lint: ## Look for what tests do not find
	go tool -modfile=tools/go.mod golangci-lint run $(PKG)

fuzz: ## Run every fuzz target for FUZZTIME, 60s unless set (PKG)
	@scripts/install-servers --test
	FUZZTIME=$(FUZZTIME) scripts/fuzz $(PKG)

bench: ## Run the benchmarks that the README quotes
	@scripts/install-servers --test
	go run ./bench

soak: ## Run the whole-system tests and those of the servers for long, with kills and restarts
	@scripts/install-servers --test
	BINDERY_SOAK=1 BINDERY_TEST_ALL=1 go test -p 1 -count=1 -timeout 3h -v ./test/... ./driver/... ./devserver

servers: ## Print which servers and tools are found
	@scripts/install-servers --list

# tidy -e: the tests of dependencies may need modules that cannot be had.
verify: ## Check that the tree is formatted, tidy and vetted
	@test -z "$$(gofmt -l .)" || { echo 'not formatted:'; gofmt -l .; exit 1; }
	go mod tidy -e -diff
	go vet ./...

clean: ## Remove what was built and installed here; .bindery, with its data, stays
	rm -rf bin .cache
