# Lockstep. `make help` prints the targets; each one says what it does in the comment on its
# line, which goes on in lines that begin with ##.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

.PHONY: help
help: ## print this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 } \
		/^## / { printf "  %-17s %s\n", "", substr($$0, 4) }' Makefile

.PHONY: build
build: go ## build lockstepd, lockstep and lockstep-edge into bin/
	@echo "building lockstepd, lockstep and lockstep-edge" \
		"(the first time takes some minutes: every dependency is compiled)"
	test/build lockstepd lockstep lockstep-edge

.PHONY: release
release: go ## build them into bin/release/, optimized by the recorded profile
## (a minute or two more)
	PROFILE=auto test/build lockstepd lockstep lockstep-edge

.PHONY: envoy
envoy: ## install Envoy 1.40.0 into .envoy/
	@test/install-envoy

.PHONY: demo
demo: build envoy ## three Envoys, live traffic, three rotations, under 90 s
## (DEMO_KEEP=1 leaves it up)
	test/build ./test/demo
	bin/demo

.PHONY: demo-break
demo-break: build envoy ## the same with keys replaced abruptly:
## clients are refused, which is what the rotation avoids
	test/build ./test/demo
	bin/demo -break

.PHONY: bench
bench: release envoy caddy ## measure against stock go-control-plane and the edge's peers,
## into test/bench/RESULTS.md (45 minutes, on an idle machine); ONLY=push measures one subject
	CGO_ENABLED=0 go run -trimpath ./test/bench $(if $(ONLY),-only '$(ONLY)')

ENVOYS := 1.36.4 1.37.0 1.38.3 1.39.3 1.40.0

.PHONY: compat
compat: build ## try rotation, modes and a mixed fleet on every Envoy that can be installed
## (a few minutes), into docs/compat.md
	@test/install-envoy $(ENVOYS)
	go run ./test/compat -page docs/compat.md $(ENVOYS)

.PHONY: profile
profile: release ## take the CPU profile that the compiler optimizes lockstep-edge for, anew
## (two minutes, on an idle machine)
	go run ./test/bench -profile cmd/lockstep-edge/default.pgo

.PHONY: caddy
# a peer of lockstep-edge, into .caddy/; nginx is another, which the bench asks for where it is
# missing
caddy: go
	@test/install-caddy

# These packages run programs that are not ours, or build ours: Envoy, Redis, NATS, keepalived,
# systemd, promtool.
WHOLE := deploy/.*|store/redis|store/jetstream|events/nats|cmd/internal/(stores|bootstrap)
WHOLE := $(WHOLE)|test/(abuse|canary|compat|corpus|crash|demo|double|e2e|field|fleet|soak|traffic)

.PHONY: check
check: lint ## before each commit: format, lint, and the unit tests, which need no other program
## (three minutes at most)
	go test -short $$(go list ./... | grep -vE '/($(WHOLE))$$')

.PHONY: e2e
e2e: ## one end-to-end test by name, with what it needs built:
## make e2e RUN=TestEdgesRotateWithEnvoys (without RUN: their names)
	@all=$$(grep -ohE '^func Test[A-Za-z0-9_]+' test/e2e/*_test.go | cut -c6- | grep -vx TestMain); run='$(RUN)'; \
	if test -z "$$run" || ! grep -qE -- "$${run%%/*}" <<<"$$all"; then \
		echo "say which: make e2e RUN=name; \"$$run\" is none of"; sed 's/^/  /' <<<"$$all"; exit 1; fi
	@$(MAKE) build envoy
	go test -v -count 1 -timeout 30m -run '$(RUN)' ./test/e2e

.PHONY: field
field: test-packages build envoy ## run all cases of test/field: what people's files, clients and
## servers do, on the real programs; prints a table (ONLY='02 21' runs some; the quick ones are in
## make test)
	@test/field/run $(ONLY)

# Passing subtests and progress lines are left out of the output; every failure is shown with its
# whole log. The soak mostly waits: it goes on for ten minutes beside all other packages, and its
# output comes last. It is built first, alone, since two builds at once would do everything twice.
SOAK := LOCKSTEP_SOAK=10m go test -race -v -timeout 45m ./test/soak
OTHERS := go test -race -v -timeout 30m $$(go list ./... | grep -v /test/soak$$)
.PHONY: test
test: test-packages envoy promtool build lint ## run all tests, real Envoy included,
## with the race detector
	go test -race -run '^$$' ./test/soak
	test/beside '$(SOAK)' '$(OTHERS)' 2>&1 | \
		grep --line-buffered -avE '^=== |^ +--- PASS|^PASS$$|\[no test files\]$$'
	@FUZZTIME=$${FUZZTIME:-10s} test/fuzz

.PHONY: docs
docs: go ## write the generated pages anew: docs/reference and the table in docs/metrics.md
	go test ./cmd/lockstep ./cmd/lockstepd ./cmd/lockstep-edge ./test/pages -run TestReference -update

.PHONY: fuzz
fuzz: go ## each fuzz target for 30 s (FUZZTIME=10m for longer)
	@test/fuzz

.PHONY: soak
soak: build envoy ## an hour of rotations and churn, an hour of random faults whose events are
## found again (ten minutes of it are in make test), 100 kills at each failpoint, 100 orders after a
## bad renewal, and 10 minutes of each fuzz target
	go run ./test/soak -for 1h
	go run ./test/soak -faults -for 1h
	CRASH_SEEDS=100 go test -timeout 3h -v ./test/crash
	E2E_ORDERS=100 E2E_PLACES=all go test -timeout 2h -v \
		-run 'TestABadRenewalInAnyOrder|TestAnEagerNodeStartsWithOneBadHost' ./test/e2e
	FUZZTIME=10m test/fuzz

.PHONY: lint
lint: go ## gofmt, go vet, staticcheck, and that lines end in time:
## comments and prose at column 100, code at 120
	@unformatted=$$(gofmt -l .); \
	test -z "$$unformatted" || { echo "not formatted (run gofmt -w on them):" $$unformatted; exit 1; }
	go vet ./...
	go tool staticcheck ./...
	go run ./test/columns

.PHONY: promtool
promtool: ## install promtool into .promtool/ (it checks the alert rules)
	@test/install-promtool

.PHONY: test-packages
# the race detector needs a C compiler, the Redis store its servers, failovers keepalived, edges
# behind a balancer HAProxy, edges before servers nginx and Node.js, cases curl and openssl,
# partitions ip, units systemd (and the kill that they name); the rest is fetched by go and by
# test/install-envoy. No service is started: nginx would take port 80.
test-packages:
	@command -v gcc >/dev/null || { \
		echo "installing gcc (the race detector needs it)"; \
		apt-get update -q && apt-get install -qy --no-install-recommends gcc libc6-dev || { \
			echo "gcc could not be installed; as root, type: apt-get install -y gcc libc6-dev"; exit 1; }; }
	@command -v redis-server >/dev/null && command -v redis-sentinel >/dev/null || { \
		echo "installing redis-server and redis-sentinel (the Redis store is tested on them)"; \
		test/install-services redis-server redis-sentinel || { \
			echo "they could not be installed; as root, type: apt-get install -y redis-server redis-sentinel"; \
			exit 1; }; }
	@command -v keepalived >/dev/null || test -x /usr/sbin/keepalived || { \
		echo "installing keepalived (failovers are tested with it)"; \
		test/install-services keepalived || { \
			echo "keepalived could not be installed; as root, type: apt-get install -y keepalived"; exit 1; }; }
	@command -v haproxy >/dev/null || test -x /usr/sbin/haproxy || { \
		echo "installing haproxy (edges are tested behind it)"; \
		test/install-services haproxy || { \
			echo "haproxy could not be installed; as root, type: apt-get install -y haproxy"; exit 1; }; }
	@command -v nginx >/dev/null || test -x /usr/sbin/nginx || { \
		echo "installing nginx (edges are tested in front of it)"; \
		test/install-services nginx || { \
			echo "nginx could not be installed; as root, type: apt-get install -y nginx"; exit 1; }; }
	@command -v node >/dev/null && command -v curl >/dev/null && command -v openssl >/dev/null || { \
		echo "installing nodejs, curl and openssl (edges are tested with them)"; \
		apt-get update -q && apt-get install -qy --no-install-recommends nodejs curl openssl || { \
			echo "they could not be installed; as root, type: apt-get install -y nodejs curl openssl"; exit 1; }; }
	@command -v ip >/dev/null || { \
		echo "installing iproute2 (the tests that cut links need it)"; \
		apt-get update -q && apt-get install -qy --no-install-recommends iproute2 || { \
			echo "iproute2 could not be installed; as root, type: apt-get install -y iproute2"; exit 1; }; }
	@test -x /lib/systemd/systemd && test -x /bin/kill || { \
		echo "installing systemd and procps (the units in deploy/systemd are tested with them)"; \
		apt-get update -q && apt-get install -qy --no-install-recommends systemd procps || { \
			echo "they could not be installed; as root, type: apt-get install -y systemd procps"; exit 1; }; }

.PHONY: go
go:
	@command -v go >/dev/null || { \
		echo "Go is missing: install 1.26 or later (https://go.dev/dl/) and put it on the PATH"; exit 1; }
