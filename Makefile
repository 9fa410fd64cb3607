# The verbs of Warble, in the groups of make help. CI (.ci/run) calls these and nothing else. What is longer than a few lines is a
# script in tools/, or beside what it is about.
export KO_CONFIG_PATH = ko.yaml

# As in an image, where ko builds with -trimpath and without cgo: what is compiled for one is compiled for the other. Without
# tables for a debugger, for linking is most of a warm build.
export CGO_ENABLED ?= 0
export GOFLAGS     := $(filter-out -trimpath -ldflags=%,$(GOFLAGS)) -trimpath -ldflags=-w

GO   ?= go
TOOL  = $(GO) tool -modfile=tools/go.mod
# Formats, validates and tests; what is to download providers or reach Azure takes a terraform from PATH.
TERRAFORM = TF_CLI_CONFIG_FILE=/dev/null $(GO) -C tools/terraform tool terraform

# What a verb is given, as in: make run ARGS="-demo"
ARGS     ?=
# How long each fuzz test runs.
FUZZTIME ?= 20s
# How many processes `make kills` kills, and which: 0 for other ones each time.
KILLS    ?= 1000
SEED     ?= 0
export STACK ?= 01-cluster 02-database 03-application 04-observability

# go vet is make check's: in a test it would read every dependency once more.
TEST = $(GO) test -vet=off -shuffle=on -count=1
E2E  = $(GO) test -tags e2e -v -count=1
# The deployment in the cluster of this machine.
HERE = . e2e/cluster/env.sh && export WARBLE_URL=http://$$INGRESS_ADDRESS WARBLE_HOST=edge.warble.$$CLUSTER_DOMAIN &&

# No file is made but by what these say, so all of them run whenever they are asked for.
.PHONY: $(shell sed -n 's/^\([a-z][a-z0-9-]*\):.*/\1/p' $(firstword $(MAKEFILE_LIST)) | sort -u)

help: ## this list
	@awk -v columns=80 -f tools/help.awk $(MAKEFILE_LIST)

### Use

run: postgres ## Use: Warble on this machine, with the playground and the board of experiments (ARGS="-fresh -demo -v")
	@$(GO) build -o .warble/local ./cmd/local
	@exec .warble/local $(ARGS)

try: ## Use: an account, a tweet and a timeline on the Warble that make run started, command by command (WARBLE_URL)
	@tools/try.sh

load: ## Use: synthetic people use the Warble that make run started (ARGS="-users 2000 -rate 250 -for 5m -effect +0.20")
	@$(GO) build -o .warble/load ./cmd/load
	@exec .warble/load $(ARGS)

demo: postgres ## Use: an experiment from its start to its verdict on this machine, with synthetic people; 8 minutes (DEMO_DIR)
	@e2e/demo.sh

experiment: ## Use: kn experiment ARGS, as in: make experiment ARGS="plan -f knative/experiments/likes.yaml"
	@$(GO) run ./cmd/kn-experiment $(ARGS)

experiment-step: ## Use: one VERB of the EXPERIMENT, a file of knative/experiments without its .yaml; report.html or report.txt has what is known after it
	@tools/experiment-step.sh

### Develop

test: postgres ## Develop: every test, on a real PostgreSQL; needs nothing but Go and that
	$(TEST) $(RACE) -timeout 15m ./...

race: export CGO_ENABLED := 1
race: RACE := -race
race: test ## Develop: the same with the race detector

test-infra: postgres prometheus terraform ## Develop: alerts and dashboards in a real Prometheus, every stack and module in a real Terraform
	$(TEST) -tags infra -timeout 15m ./terraform/...

check: shellcheck ## Develop: format, vet, lint, workflows, tidy modules, generated files
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$unformatted" || { echo "not gofmt-clean: $$unformatted"; exit 1; }
	@tools/generate.sh check
	$(GO) mod tidy -diff
	$(GO) vet -tags e2e,infra ./...
	$(GO) -C e2e/images vet ./...
	$(TOOL) staticcheck -tags e2e,infra ./...
	shellcheck $$(git ls-files '*.sh' .ci/run)
	$(TERRAFORM) fmt -check -diff -recursive $(CURDIR)/terraform
	@if ls .github/workflows/*.y*ml >/dev/null 2>&1; then $(TOOL) actionlint; fi

fuzz: ## Develop: every fuzz test, 20 s each (FUZZTIME)
	tools/fuzz.sh $(FUZZTIME)

e2e: postgres pgbouncer ## Develop: journeys and faults, on a local run (WARBLE_URL, WARBLE_HOST: the journeys, on what they name)
	$(E2E) -timeout 15m -skip '^TestClient|^TestCluster|^TestLong|^TestKills' ./e2e

kills: postgres pgbouncer ## Develop: SIGKILL to functions, relay, PostgreSQL and PgBouncer at random, under load, and what is lost: nothing (KILLS=1000, SEED)
	$(E2E) -timeout 4h -run '^TestKills' ./e2e -kills $(KILLS) -seed $(SEED)

e2e-clients: postgres node tweepy ## Develop: the contract in redocly; six client libraries for X, of Go, Node and Python, on the same
	npm ci --silent --no-audit --no-fund --prefix e2e/clients/node
	cd e2e/clients/node && REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true npx --no-install redocly lint ../../../functions/openapi.yaml
	$(E2E) -timeout 15m -run '^TestClient' ./e2e

e2e-web: export WARBLE_URL := $(WARBLE_URL)
e2e-web: export WARBLE_HOST := $(WARBLE_HOST)
e2e-web: postgres chromium node ## Develop: the playground and the board in a browser, on a local run of its own or on WARBLE_URL, WARBLE_HOST and KUBECONFIG (SCREENSHOTS=folder keeps what they look like)
	npm ci --silent --no-audit --no-fund --prefix e2e/web
	$(E2E) -timeout 30m -skip '^TestPictures' ./e2e/web

e2e-report: postgres chromium ## Develop: the contract's page and an experiment's report in a browser, wide, on a phone and in the dark (SCREENSHOTS=folder keeps what it looks like)
	$(E2E) -timeout 10m -run '^TestPage' ./functions/edge ./shared/report

pictures: postgres chromium ## Develop: the README's pictures, from Warble itself: 8 minutes
	SCREENSHOTS=$(CURDIR)/docs/pictures $(E2E) -timeout 30m -run '^TestPictures' ./e2e/web

simulate: ## Develop: what the readout of experiments promises, on 2000 simulated ones in each world: takes three quarters of an hour
	$(GO) test -v -count=1 -timeout 2h -run '^(TestPermuteLiftIsSeldomWrong|TestASequenceOfCommunitiesIsSeldomWrong)' ./shared/stats -simulated 2000
	$(GO) test -v -count=1 -timeout 2h -run '^TestWhatTheReadoutPromises' ./shared/readout -simulated 2000

images: ## Develop: every function's image: its size, its SBOM, the same digest from a second build; no registry or network needed
	$(GO) -C e2e/images test -count=1 -timeout 20m ./...

bench: postgres node ## Develop: throughput, latency, start-up and memory as ratios to bare equivalents
	npm ci --silent --no-audit --no-fund --prefix e2e/bench/peer
	$(GO) run ./e2e/bench

generate: ## Develop: what is written of the types in shared/experiment and shared/rollout: definitions in knative, deep copies; of that and of metrics: pages of docs
	@tools/generate.sh

fmt: ## Develop: gofmt and terraform fmt everything
	gofmt -w $$(git ls-files '*.go')
	$(TERRAFORM) fmt -recursive $(CURDIR)/terraform

vulnerabilities: ## Develop: known ones in what is linked; asks vuln.go.dev
	$(TOOL) govulncheck ./...

schemas: ## Develop: what Terraform's providers take, which test-infra holds the stacks to; downloads the providers
	$(GO) run ./terraform/schemas

### Cluster

cluster: ## Cluster: Kubernetes and Knative on this machine: Linux, root, no Docker (CLUSTER_DIR)
	@e2e/cluster/up.sh

cluster-down: ## Cluster: stop it and leave nothing behind
	@e2e/cluster/down.sh

deploy: ## Cluster: build and apply to kubectl's current context; KO_DOCKER_REPO, DATABASE_DIRECT_URL (ARGS="candidate", "promote", "check", "secrets", "rotate-keys")
	@$(GO) run ./cmd/deploy $(ARGS)

e2e-cluster: ## Cluster: journeys, and what a cluster does, on the deployment in the cluster of this machine: after make cluster deploy
	@$(HERE) $(MAKE) --no-print-directory e2e-here

# Five at once, for so many wait side by side in TestClusterTakesItsTime. On any cluster: KUBECONFIG, KO_DOCKER_REPO, WARBLE_URL and WARBLE_HOST.
e2e-here: export WARBLE_URL := $(WARBLE_URL)
e2e-here: export WARBLE_HOST := $(WARBLE_HOST)
e2e-here:
	$(E2E) -timeout 70m -parallel 5 -skip '^TestClient|^TestLong|^TestKills' ./e2e

e2e-long: ## Cluster: what takes the same cluster half an hour: verdicts on planted effects, deployments around an experiment, a release's candidate, the pages in a browser
	@$(HERE) $(E2E) -timeout 60m -run '^TestLong' ./e2e
	@$(HERE) $(MAKE) --no-print-directory e2e-web

cold: ## Cluster: cold starts of functions beside a bare hello, 40 of each, and what the edge costs, on the same cluster; 13 minutes
	@$(HERE) $(GO) test -tags e2e -count=1 -timeout 60m -run '^$$' -bench . -benchtime 40x ./e2e

kind: ## Cluster: Kubernetes in Docker with Knative, Kourier and PostgreSQL
	@e2e/cluster/kind.sh

e2e-kind: ## Cluster: deploy to it, and the journeys and what a cluster does, through Kourier
	@. e2e/cluster/kind.env && $(MAKE) --no-print-directory deploy && $(MAKE) --no-print-directory e2e-here

### Azure

state: ## Azure: the storage account of Terraform's state: STATE_ACCOUNT (LOCATION)
	@terraform/state.sh

stack: ## Azure: terraform ARGS in the stacks of STACK, all unless it says: STATE_ACCOUNT
	@tools/stack.sh $(ARGS)

locks: ## Azure: the lock files of the stacks of STACK, for three platforms; commit them. Asks the providers' registry
	@terraform/locks.sh write

locked: ## Azure: that the lock files of the stacks of STACK are committed, and complete
	@terraform/locks.sh check

kubeconfig: kubelogin ## Azure: kubectl's context for AKS: AZURE_RESOURCE_GROUP, AZURE_CLUSTER
	@az aks get-credentials --resource-group "$$AZURE_RESOURCE_GROUP" --name "$$AZURE_CLUSTER" --overwrite-existing
	@kubelogin convert-kubeconfig -l azurecli

registry: ## Azure: ko's login to Azure's registry, without Docker: AZURE_REGISTRY
	@az acr login --name "$$AZURE_REGISTRY" --expose-token --output tsv --query accessToken | \
	  $(GO) tool -modfile=tools/ko/go.mod ko login "$$AZURE_REGISTRY.azurecr.io" --username 00000000-0000-0000-0000-000000000000 --password-stdin

### Release

release: ## Release: release.yaml, which kubectl apply takes; KO_DOCKER_REPO
	@$(GO) run ./cmd/deploy release release.yaml

sign: ## Release: every image of release.yaml and its SBOM, and the file itself, keyless; writes images.sha256: cosign
	@tools/release.sh sign

verify: ## Release: that the workflow of GITHUB_REPOSITORY signed release.yaml and its images at the tag GITHUB_REF_NAME: cosign
	@tools/release.sh verify

publish: ## Release: a release on GitHub of the tag GITHUB_REF_NAME, with release.yaml: gh
	gh release create "$$GITHUB_REF_NAME" --verify-tag --generate-notes release.yaml release.yaml.bundle images.sha256

### What the verbs need

# What Go cannot bring along is installed where it is missing.
INSTALLED = postgres pgbouncer node tweepy chromium shellcheck
.PHONY: $(INSTALLED)
$(INSTALLED):
	@tools/install.sh $@

kubelogin:
	@tools/install.sh kubelogin

# Built here rather than by the first test that wants them, whose clock is running. Without the clouds' discoveries, which
# are nine tenths of it.
prometheus:
	@GOFLAGS="$(GOFLAGS) -tags=remove_all_sd" $(GO) -C tools/prometheus tool -n promtool >/dev/null
	@GOFLAGS="$(GOFLAGS) -tags=remove_all_sd" $(GO) -C tools/prometheus tool -n prometheus >/dev/null

terraform:
	@$(GO) -C tools/terraform tool -n terraform >/dev/null
