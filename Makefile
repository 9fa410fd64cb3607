# The verbs of Warble, in the groups of make help. CI (.ci/run) calls only these. A recipe of more than a few lines is a script in tools/, or
# in the folder that it works on.
export KO_CONFIG_PATH = ko.yaml

# The same flags as for an image, which ko builds with -trimpath and without cgo, so that both share the build cache. -w leaves out the
# debugger's tables, because linking takes most of a warm build.
export CGO_ENABLED ?= 0
export GOFLAGS     := $(filter-out -trimpath -ldflags=%,$(GOFLAGS)) -trimpath -ldflags=-w

GO   ?= go
TOOL  = $(GO) tool -modfile=tools/go.mod
# This terraform formats, validates and tests. Verbs that download providers or reach Azure use a terraform from PATH.
TERRAFORM = TF_CLI_CONFIG_FILE=/dev/null $(GO) -C tools/terraform tool terraform

# Arguments of a verb, for example: make run ARGS="-demo"
ARGS     ?=
# How long each fuzz test runs.
FUZZTIME ?= 20s
# How many processes `make kills` kills, and the seed that chooses them; 0 chooses others each time.
KILLS    ?= 1000
SEED     ?= 0
export STACK ?= 01-cluster 02-database 03-application 04-observability

# Without go vet, which make check runs: in a test it would read every dependency again. One package more than two cores at a time, because
# some tests wait for the most part.
TEST = $(GO) test -vet=off -shuffle=on -count=1 -p $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 1)))
E2E  = $(GO) test -tags e2e -v -count=1
# The environment of the deployment in this machine's cluster.
HERE = . e2e/cluster/env.sh && export WARBLE_URL=http://$$INGRESS_ADDRESS WARBLE_HOST=edge.warble.$$CLUSTER_DOMAIN &&

# No verb makes a file of its own name, so all of them are phony.
.PHONY: $(shell sed -n 's/^\([a-z][a-z0-9-]*\):.*/\1/p' $(firstword $(MAKEFILE_LIST)) | sort -u)

help: ## this list
	@awk -v columns=80 -f tools/help.awk $(MAKEFILE_LIST)

### Use

run: postgres ## Use: run Warble on this machine, with the playground and the board of experiments (ARGS="-fresh -demo -v")
	@$(GO) build -o .warble/local ./cmd/local
	@exec .warble/local $(ARGS)

try: ## Use: make an account, tweet and read the timeline at the Warble of make run, and show each command (WARBLE_URL)
	@tools/try.sh

load: ## Use: send synthetic people to the Warble of make run (ARGS="-users 2000 -rate 250 -for 5m -effect +0.20")
	@$(GO) build -o .warble/load ./cmd/load
	@exec .warble/load $(ARGS)

demo: postgres ## Use: show an experiment from start to verdict on this machine, with synthetic people; 8 minutes (DEMO_DIR)
	@e2e/demo.sh

experiment: ## Use: run kn experiment, for example: make experiment ARGS="plan -f knative/experiments/likes.yaml"
	@$(GO) run ./cmd/kn-experiment $(ARGS)

experiment-step: ## Use: run one VERB on EXPERIMENT, a file of knative/experiments without .yaml, and write the report into report.html or report.txt
	@tools/experiment-step.sh

### Develop

test: postgres ## Develop: run every test on a real PostgreSQL; needs only Go and PostgreSQL
	$(TEST) $(RACE) -timeout 15m ./...

race: export CGO_ENABLED := 1
race: RACE := -race
race: test ## Develop: run every test with the race detector

test-infra: postgres prometheus terraform ## Develop: test alerts and dashboards in a real Prometheus, and every stack and module in a real Terraform
	$(TEST) -tags infra -timeout 15m ./terraform/...

check: shellcheck ## Develop: check formats, vet, lint, workflows, tidy modules and generated files
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$unformatted" || { echo "not gofmt-clean: $$unformatted"; exit 1; }
	@tools/generate.sh check
	$(GO) mod tidy -diff
	$(GO) vet -tags e2e,infra ./...
	$(GO) -C e2e/images vet ./...
	$(TOOL) staticcheck -tags e2e,infra ./...
	shellcheck $$(git ls-files '*.sh' .ci/run)
	$(TERRAFORM) fmt -check -diff -recursive $(CURDIR)/terraform
	@if ls .github/workflows/*.y*ml >/dev/null 2>&1; then $(TOOL) actionlint; fi

fuzz: ## Develop: run every fuzz test for 20 s (FUZZTIME)
	tools/fuzz.sh $(FUZZTIME)

e2e: postgres pgbouncer ## Develop: test journeys and faults on a local run; with WARBLE_URL and WARBLE_HOST, only journeys, at that Warble
	$(E2E) -timeout 15m -skip '^TestClient|^TestCluster|^TestLong|^TestKills' ./e2e

kills: postgres pgbouncer ## Develop: kill functions, relay, PostgreSQL and PgBouncer at random under load, and check that nothing is lost (KILLS=1000, SEED)
	$(E2E) -timeout 4h -run '^TestKills' ./e2e -kills $(KILLS) -seed $(SEED)

e2e-clients: postgres node tweepy ## Develop: check the contract with redocly, and test six client libraries for X, in Go, Node and Python
	npm ci --silent --no-audit --no-fund --prefix e2e/clients/node
	cd e2e/clients/node && REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true npx --no-install redocly lint ../../../functions/openapi.yaml
	$(E2E) -timeout 15m -run '^TestClient' ./e2e

e2e-web: export WARBLE_URL := $(WARBLE_URL)
e2e-web: export WARBLE_HOST := $(WARBLE_HOST)
e2e-web: postgres chromium node ## Develop: test the playground and the board in a browser, on a local run or at WARBLE_URL, WARBLE_HOST and KUBECONFIG (SCREENSHOTS=folder keeps pictures)
	npm ci --silent --no-audit --no-fund --prefix e2e/web
	$(E2E) -timeout 30m -skip '^TestPictures' ./e2e/web

e2e-report: postgres chromium ## Develop: test the contract's page and an experiment's report in a browser: wide, on a phone and in the dark (SCREENSHOTS=folder keeps pictures)
	$(E2E) -timeout 10m -run '^TestPage' ./functions/edge ./shared/report

pictures: postgres chromium ## Develop: make the README's pictures from a running Warble; 8 minutes
	SCREENSHOTS=$(CURDIR)/docs/pictures $(E2E) -timeout 30m -run '^TestPictures' ./e2e/web

simulate: ## Develop: test the readout's promises with 2000 simulated experiments in each world; 45 minutes
	$(GO) test -v -count=1 -timeout 2h -run '^(TestPermuteLiftIsSeldomWrong|TestASequenceOfCommunitiesIsSeldomWrong)' ./shared/stats -simulated 2000
	$(GO) test -v -count=1 -timeout 2h -run '^TestWhatTheReadoutPromises' ./shared/readout -simulated 2000

timing: SHELL = /bin/bash
timing: .SHELLFLAGS = -o pipefail -c
timing: postgres ## Develop: compare the time of logins and resets for known and for unknown addresses, in 2000 pairs each; 3 minutes on an idle machine
	$(GO) test -v -count=1 -timeout 2h -run TakesAsLong ./functions/login -pairs 2000 | grep -v '^ *{'
	$(GO) test -v -count=1 -timeout 2h -run TakesAsLong ./functions/account -pairs 2000 | grep -v '^ *{'

images: ## Develop: check every function's image: its size, its SBOM, and that a second build has the same digest; needs no registry or network
	$(GO) -C e2e/images test -count=1 -timeout 20m ./...

bench: postgres node ## Develop: measure throughput, latency, start-up and memory as ratios to bare equivalents
	npm ci --silent --no-audit --no-fund --prefix e2e/bench/peer
	$(GO) run ./e2e/bench

generate: ## Develop: generate the definitions in knative, the deep copies and the reference pages from the types in shared/experiment and shared/rollout, and the metrics
	@tools/generate.sh

fmt: ## Develop: format everything with gofmt and terraform fmt
	gofmt -w $$(git ls-files '*.go')
	$(TERRAFORM) fmt -recursive $(CURDIR)/terraform

vulnerabilities: ## Develop: list known vulnerabilities in linked packages; asks vuln.go.dev
	$(TOOL) govulncheck ./...

schemas: ## Develop: write the schemas of Terraform's providers, against which test-infra checks the stacks; downloads the providers
	$(GO) run ./terraform/schemas

### Cluster

cluster: ## Cluster: start Kubernetes and Knative on this machine; needs Linux and root, no Docker (CLUSTER_DIR)
	@e2e/cluster/up.sh

cluster-down: ## Cluster: stop the cluster and delete everything of it
	@e2e/cluster/down.sh

deploy: ## Cluster: build and apply to kubectl's current context; KO_DOCKER_REPO, DATABASE_DIRECT_URL (ARGS="candidate", "promote", "check", "secrets", "rotate-keys")
	@$(GO) run ./cmd/deploy $(ARGS)

e2e-cluster: ## Cluster: test journeys and cluster behaviour on this machine's deployment; after make cluster deploy
	@$(HERE) $(MAKE) --no-print-directory e2e-here

# Six tests in parallel, as many as TestClusterTakesItsTime has. Works on any cluster, with KUBECONFIG, KO_DOCKER_REPO, WARBLE_URL and WARBLE_HOST.
e2e-here: export WARBLE_URL := $(WARBLE_URL)
e2e-here: export WARBLE_HOST := $(WARBLE_HOST)
e2e-here:
	$(E2E) -timeout 70m -parallel 6 -skip '^TestClient|^TestLong|^TestKills' ./e2e

e2e-long: ## Cluster: run the slow tests, half an hour: verdicts on planted effects, deployments during an experiment, a release's candidate, pages in a browser
	@$(HERE) $(E2E) -timeout 60m -run '^TestLong' ./e2e
	@$(HERE) $(MAKE) --no-print-directory e2e-web

cold: ## Cluster: measure 40 cold starts each of functions and of a bare program, and the cost of the edge; 13 minutes
	@$(HERE) $(GO) test -tags e2e -count=1 -timeout 60m -run '^$$' -bench . -benchtime 40x ./e2e

kind: ## Cluster: start Kubernetes in Docker with Knative, Kourier and PostgreSQL
	@e2e/cluster/kind.sh

e2e-kind: ## Cluster: deploy to the cluster of make kind, and test journeys and cluster behaviour through Kourier
	@. e2e/cluster/kind.env && $(MAKE) --no-print-directory deploy && $(MAKE) --no-print-directory e2e-here

### Azure

state: ## Azure: create the storage account of Terraform's state: STATE_ACCOUNT (LOCATION)
	@terraform/state.sh

stack: ## Azure: run terraform with ARGS in the stacks of STACK (default: all): STATE_ACCOUNT
	@tools/stack.sh $(ARGS)

locks: ## Azure: write the lock files of the stacks of STACK for three platforms, to be committed; asks the providers' registry
	@terraform/locks.sh write

locked: ## Azure: check that the lock files of the stacks of STACK are committed and complete
	@terraform/locks.sh check

kubeconfig: kubelogin ## Azure: write kubectl's context for AKS: AZURE_RESOURCE_GROUP, AZURE_CLUSTER
	@az aks get-credentials --resource-group "$$AZURE_RESOURCE_GROUP" --name "$$AZURE_CLUSTER" --overwrite-existing
	@kubelogin convert-kubeconfig -l azurecli

registry: ## Azure: log ko in to Azure's registry, without Docker: AZURE_REGISTRY
	@az acr login --name "$$AZURE_REGISTRY" --expose-token --output tsv --query accessToken | \
	  $(GO) tool -modfile=tools/ko/go.mod ko login "$$AZURE_REGISTRY.azurecr.io" --username 00000000-0000-0000-0000-000000000000 --password-stdin

### Release

release: ## Release: write release.yaml, for kubectl apply; KO_DOCKER_REPO
	@$(GO) run ./cmd/deploy release release.yaml

sign: ## Release: sign every image of release.yaml, its SBOM and the file itself, keyless, and write images.sha256; needs cosign
	@tools/release.sh sign

verify: ## Release: check that the workflow of GITHUB_REPOSITORY signed release.yaml and its images at the tag GITHUB_REF_NAME; needs cosign
	@tools/release.sh verify

publish: ## Release: publish a GitHub release of the tag GITHUB_REF_NAME, with release.yaml; needs gh
	gh release create "$$GITHUB_REF_NAME" --verify-tag --generate-notes release.yaml release.yaml.bundle images.sha256

### What the verbs need

# Programs that are not Go modules are installed if they are missing.
INSTALLED = postgres pgbouncer node tweepy chromium shellcheck
.PHONY: $(INSTALLED)
$(INSTALLED):
	@tools/install.sh $@

kubelogin:
	@tools/install.sh kubelogin

# Built here, because in the first test that needs them the build would count against its time limit. Without service discovery for clouds,
# which is nine tenths of the code.
prometheus:
	@GOFLAGS="$(GOFLAGS) -tags=remove_all_sd" $(GO) -C tools/prometheus tool -n promtool >/dev/null
	@GOFLAGS="$(GOFLAGS) -tags=remove_all_sd" $(GO) -C tools/prometheus tool -n prometheus >/dev/null
	@$(GO) -C tools/prometheus tool -n amtool >/dev/null

terraform:
	@$(GO) -C tools/terraform tool -n terraform >/dev/null
