# Thin names over go commands; `make help` lists them.
GO ?= go

.PHONY: help demo up e2e test race compat bench bench-metrics bench-logs bench-drain bench-redaction lint fmt generate dist image fuzz
help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: ## a recorded real incident, found and explained in seconds
	$(GO) run ./cmd/oncall demo

up: ## watch the cluster of the current kubeconfig context
	$(GO) run ./cmd/oncall up $(ARGS)

# Sixty programs of tests are linked each time: without the tables of debuggers in
# a quarter less.
TEST = $(GO) test -ldflags=-w

test: ## everything that needs no server build, and no service as a process
	$(TEST) ./...
	$(TEST) work

e2e: ## real servers, the services as processes, real failures
	$(GO) run ./test/testbed/cmd/testbed build
	$(GO) test -tags e2e -count=1 -parallel 16 -timeout 40m ./test/testbed/... ./test/integration/... ./deploy ./internal/archtest
	$(GO) test -tags e2e -count=1 -run ARealLoki ./services/detector/detectors
	$(GO) test -tags e2e -count=1 -timeout 60m ./test/fault

race: ## what is concurrent, under the race detector
	$(TEST) -race ./pkg/bus/... ./pkg/service/... ./services/... ./internal/pipeline/...

compat: ## our codecs against the reference ones, in modules that do not ship
	@for m in test/compat/*/go.mod; do (cd "$$(dirname $$m)" && GOWORK=off $(GO) test ./...) || exit 1; done

bench: ## the benchmarks
	$(GO) test -run '^$$' -bench . -benchtime 1s ./pkg/... ./services/...

bench-metrics: ## the detector of one series on labelled data, where that is there
	$(GO) run ./test/benchmark/metrics -starts
	$(GO) run ./test/benchmark/metrics -leave-one-out

bench-logs: ## the log miner on invented logs, on those of real programs, on labelled ones where those are there, and the detectors of logs on healthy ones
	$(GO) test -v -run '^$$' -bench 'Grouping|LeaveOneOut|Invented|Imitated|Programs|HeaderShapes' -benchtime 1x ./pkg/logpattern
	$(GO) test -run '^$$' -bench 'Add' -benchtime 2s ./pkg/logpattern
	$(GO) test -v -run '^$$' -bench HealthyLogs -benchtime 1x ./services/detector/detectors
	$(GO) test -run '^$$' -bench LogFold -benchtime 3x -cpu 1 ./services/detector

bench-drain: ## the log miner against Loki's, in speed and in what is found; minutes to build, so not part of compat
	cd test/benchmark/drain && GOWORK=off $(GO) test -v -run '^$$' -bench Speed -benchtime 5x -cpu 1 .
	cd test/benchmark/drain && GOWORK=off $(GO) test -v -run '^$$' -bench Accuracy -benchtime 1x .

bench-redaction: ## what redaction finds, what it leaves alone, and how fast it is
	cd test/compat/redaction && GOWORK=off $(GO) test -count=1 -v .
	$(GO) test -count=1 -v -run 'Zoo|CleanLines|RealLogs' ./pkg/redact
	$(GO) test -run '^$$' -bench CleanLines -benchtime 1s ./pkg/redact

lint: ## formatting, vet, and golangci-lint
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	GOWORK=off $(GO) tool -modfile=tools/go.mod golangci-lint run ./...

fmt: ## format everything as lint wants it
	GOWORK=off $(GO) tool -modfile=tools/go.mod golangci-lint fmt ./...

generate: ## contracts and docs from the table of kinds
	$(GO) generate ./schemas

fuzz: ## every fuzz target for a few seconds
	@for p in $$($(GO) list ./...); do for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz' || true); do \
		echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime 5s -fuzzminimizetime 20x $$p || exit 1; done; done

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null)
# Equal sources give equal files, whatever folder they are built in: no path, no
# time, no workspace and no flags of whoever builds, and of git the version alone.
RELEASE = CGO_ENABLED=0 GOWORK=off GOFLAGS= $(GO) build -trimpath -buildvcs=false \
	-ldflags "-s -w -X github.com/oncall-copilot/oncall/pkg/service.version=$(VERSION)"
SHA256 = $(shell command -v sha256sum || echo shasum -a 256)
PLATFORMS ?= linux/amd64 linux/arm64 darwin/amd64 darwin/arm64
DIST ?= dist
dist: ## static binaries, archives for krew, checksums
	@rm -rf $(DIST) && mkdir -p $(DIST)
	@for t in $(PLATFORMS); do \
		GOOS=$${t%/*} GOARCH=$${t#*/} $(RELEASE) -o $(DIST)/oncall-$${t%/*}-$${t#*/} ./cmd/oncall || exit 1; done
	@$(GO) run ./deploy/krew/pack $(DIST) $(VERSION)
	@cd $(DIST) && $(SHA256) oncall-* kubectl-oncall-* > SHA256SUMS && cat SHA256SUMS

IMAGE ?= oncall:dev
IMAGES ?= image
ARCH ?= $(shell $(GO) env GOARCH)
BUILDER ?= $(notdir $(firstword $(shell command -v buildah docker)))
SERVICES = collector detector correlator reasoner notifier
image: ## the container image and its archive, by buildah or docker, without a network
	@test -n "$(BUILDER)" || { echo "make image needs buildah or docker; on Debian: apt-get install buildah" >&2; exit 2; }
	@rm -rf $(IMAGES)/linux-$(ARCH) $(IMAGES)/oncall-linux-$(ARCH).tar && mkdir -p $(IMAGES)/linux-$(ARCH)
	GOOS=linux GOARCH=$(ARCH) $(RELEASE) -o $(IMAGES)/linux-$(ARCH)/ ./cmd/oncall $(foreach s,$(SERVICES),./services/$(s)/cmd/$(s))
	@chmod 755 $(IMAGES)/linux-$(ARCH)/* # whatever the umask: another user runs them
	$(BUILDER) build --platform linux/$(ARCH) --build-arg VERSION=$(VERSION) -f deploy/Dockerfile -t $(IMAGE) $(IMAGES)/linux-$(ARCH)
	@if [ $(BUILDER) = buildah ]; then buildah push -q $(IMAGE) docker-archive:$(IMAGES)/oncall-linux-$(ARCH).tar:$(IMAGE); \
		else $(BUILDER) save -o $(IMAGES)/oncall-linux-$(ARCH).tar $(IMAGE); fi
	@echo "$(IMAGE) is built, and its archive is $(IMAGES)/oncall-linux-$(ARCH).tar"
