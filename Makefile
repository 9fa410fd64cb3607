# The verbs of Warble. CI (.ci/run) calls these and nothing else.
export KO_CONFIG_PATH = ko.yaml

# As in an image, where ko builds with -trimpath and without cgo: what is compiled for one is compiled for the other. Without
# tables for a debugger, for linking is most of a warm build.
export CGO_ENABLED ?= 0
export GOFLAGS     := $(filter-out -trimpath -ldflags=%,$(GOFLAGS)) -trimpath -ldflags=-w

GO   ?= go
TOOL  = $(GO) tool -modfile=tools/go.mod
# Formats and tests modules without providers; what is to download providers or reach Azure takes a terraform from PATH.
TERRAFORM = TF_CLI_CONFIG_FILE=/dev/null $(GO) -C tools/terraform tool terraform
# How long each fuzz test runs, and what `make run` and `make deploy` are given, as in: make run ARGS="-demo"
FUZZTIME ?= 20s
ARGS     ?=
STACK    ?= 01-cluster 02-database 03-application 04-observability

# What is generated: the definition of the resource Experiment in the cluster, copies of its types, and pages of docs.
CRD       = knative/210-experiment-crd.yaml
GENERATED = $(CRD) $(wildcard shared/*/zz_generated.deepcopy.go) docs/experiment-resource.md docs/metrics.md

.PHONY: help run deploy release test test-infra race check bench fmt fuzz e2e e2e-clients e2e-cluster e2e-long e2e-here images cluster cluster-down cold postgres pgbouncer node shellcheck load vulnerabilities terraform-test state stack kubeconfig kind e2e-kind sign publish experiment experiment-step prometheus generate e2e-report simulate chromium demo

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: postgres ## every function, PostgreSQL and the edge on this machine (ARGS="-fresh -demo")
	@$(GO) build -o .warble/local ./cmd/local
	@exec .warble/local $(ARGS)

load: ## synthetic people use the Warble that make run started (ARGS="-users 2000 -rate 250 -for 5m -effect +0.20")
	@$(GO) build -o .warble/load ./cmd/load
	@exec .warble/load $(ARGS)

demo: postgres ## an experiment from its start to its verdict on this machine, with synthetic people; 8 minutes (DEMO_DIR)
	@e2e/demo.sh

deploy: ## build and apply to kubectl's current context; KO_DOCKER_REPO, DATABASE_DIRECT_URL (ARGS="candidate", "promote", "check", "secrets", "rotate-keys")
	@$(GO) run ./cmd/deploy $(ARGS)

release: ## release.yaml, which kubectl apply takes; KO_DOCKER_REPO
	@$(GO) run ./cmd/deploy release release.yaml

# go vet is make check's: here it would read every dependency once more.
test: postgres ## every test, on a real PostgreSQL; needs nothing but Go and that
	$(GO) test $(RACE) -vet=off -shuffle=on -count=1 -timeout 15m ./...

race: export CGO_ENABLED := 1
race: RACE := -race
race: test ## the same with the race detector

test-infra: postgres prometheus ## alerts and dashboards in a real Prometheus, stacks and modules in a real Terraform
	$(GO) test -tags infra -vet=off -shuffle=on -count=1 -timeout 15m ./terraform/...

check: shellcheck ## format, vet, lint, workflows, tidy modules, generated files
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$unformatted" || { echo "not gofmt-clean: $$unformatted"; exit 1; }
	@before=$$(cat $(GENERATED) | cksum) && $(MAKE) --no-print-directory --silent generate && test "$$before" = "$$(cat $(GENERATED) | cksum)" || \
	  { echo "was not as make generate writes it, and is now: commit $(GENERATED)"; exit 1; }
	$(GO) mod tidy -diff
	$(GO) vet -tags e2e,infra ./...
	$(GO) -C e2e/images vet ./...
	$(TOOL) staticcheck -tags e2e,infra ./...
	shellcheck $$(git ls-files '*.sh' .ci/run)
	$(TERRAFORM) fmt -check -diff -recursive $(CURDIR)/terraform
	@if ls .github/workflows/*.y*ml >/dev/null 2>&1; then $(TOOL) actionlint; fi

fuzz: ## every fuzz test, 20 s each (FUZZTIME)
	tools/fuzz.sh $(FUZZTIME)

e2e: postgres pgbouncer ## journeys and faults, on a local run (WARBLE_URL, WARBLE_HOST: the journeys, on what they name)
	$(GO) test -tags e2e -v -count=1 -timeout 15m -skip '^TestClient|^TestCluster|^TestLong' ./e2e

e2e-clients: postgres node ## Go's and Node's client libraries for X, on the same
	npm ci --silent --no-audit --no-fund --prefix e2e/clients/node
	$(GO) test -tags e2e -v -count=1 -timeout 15m -run '^TestClient' ./e2e

e2e-cluster: ## journeys, and what a cluster does, on the deployment in the cluster of this machine: after make cluster deploy
	@. e2e/cluster/env.sh && $(MAKE) --no-print-directory e2e-here WARBLE_URL=http://$$INGRESS_ADDRESS WARBLE_HOST=edge.warble.$$CLUSTER_DOMAIN

# Three at once, for so many wait side by side in TestClusterTakesItsTime. On any cluster: KUBECONFIG, KO_DOCKER_REPO, WARBLE_URL and WARBLE_HOST.
e2e-here: export WARBLE_URL := $(WARBLE_URL)
e2e-here: export WARBLE_HOST := $(WARBLE_HOST)
e2e-here:
	$(GO) test -tags e2e -v -count=1 -timeout 70m -parallel 3 -skip '^TestClient|^TestLong' ./e2e

e2e-long: ## what takes the same cluster half an hour: verdicts on planted effects, deployments around an experiment, a release's candidate
	@. e2e/cluster/env.sh && WARBLE_URL=http://$$INGRESS_ADDRESS WARBLE_HOST=edge.warble.$$CLUSTER_DOMAIN \
	  $(GO) test -tags e2e -v -count=1 -timeout 60m -run '^TestLong' ./e2e

cold: ## cold starts of functions beside a bare hello, 40 of each, and what the edge costs, on the same cluster; 13 minutes
	@. e2e/cluster/env.sh && WARBLE_URL=http://$$INGRESS_ADDRESS WARBLE_HOST=edge.warble.$$CLUSTER_DOMAIN \
	  $(GO) test -tags e2e -count=1 -timeout 60m -run '^$$' -bench . -benchtime 40x ./e2e

e2e-report: postgres chromium ## an experiment's report in a browser, wide, on a phone and in the dark (SCREENSHOTS=folder keeps what it looks like)
	$(GO) test -tags e2e -v -count=1 -timeout 10m -run '^TestPage' ./shared/report

simulate: ## what the readout of experiments promises, on 2000 simulated ones in each world: takes half an hour
	$(GO) test -v -count=1 -timeout 2h -run '^TestWhatTheReadoutPromises' ./shared/readout -simulated 2000

images: ## every function's image: its size, its SBOM, the same digest from a second build; no registry or network needed
	$(GO) -C e2e/images test -count=1 -timeout 20m ./...

cluster: ## Kubernetes and Knative on this machine: Linux, root, no Docker (CLUSTER_DIR)
	@e2e/cluster/up.sh

cluster-down: ## stop it and leave nothing behind
	@e2e/cluster/down.sh

bench: postgres ## throughput, latency, start-up and memory as ratios to bare equivalents
	$(GO) run ./e2e/bench

generate: ## what is written of the types in shared/experiment and shared/rollout: knative/210-experiment-crd.yaml, deep copies; of that and of metrics: pages of docs
	$(TOOL) controller-gen paths=./shared/experiment paths=./shared/rollout object crd:allowDangerousTypes=true output:crd:stdout >$(CRD)
	$(GO) run ./docs/reference

fmt: ## gofmt and terraform fmt everything
	gofmt -w $$(git ls-files '*.go')
	$(TERRAFORM) fmt -recursive $(CURDIR)/terraform

vulnerabilities: ## known ones in what is linked; asks vuln.go.dev
	$(TOOL) govulncheck ./...

terraform-test: ## validate and test every stack and module, with mock providers; downloads the providers
	@set -e; for folder in terraform/[0-9]* terraform/modules/*; do echo "== $$folder"; \
	  terraform -chdir=$$folder init -backend=false -input=false >/dev/null; terraform -chdir=$$folder validate; terraform -chdir=$$folder test; done

state: ## the storage account of Terraform's state: STATE_ACCOUNT (LOCATION)
	@terraform/state.sh

stack: ## terraform ARGS in the stacks of STACK, all unless it says: STATE_ACCOUNT
	@test -n "$(STATE_ACCOUNT)" || { echo "STATE_ACCOUNT is not set: expected the storage account that make state made"; exit 1; }
	@set -e; export TF_VAR_state_account=$(STATE_ACCOUNT); for stack in $(STACK); do echo "== $$stack"; \
	  terraform -chdir=terraform/$$stack init -input=false -backend-config=storage_account_name=$(STATE_ACCOUNT) >/dev/null; terraform -chdir=terraform/$$stack $(ARGS); done

kubeconfig: ## kubectl's context and docker's login for AKS and its registry: AZURE_RESOURCE_GROUP, AZURE_CLUSTER, AZURE_REGISTRY
	@az aks get-credentials --resource-group $(AZURE_RESOURCE_GROUP) --name $(AZURE_CLUSTER) --overwrite-existing
	@command -v kubelogin >/dev/null || $$([ "$$(id -u)" = 0 ] || echo sudo) az aks install-cli
	@kubelogin convert-kubeconfig -l azurecli
	@az acr login --name $(AZURE_REGISTRY)

kind: ## Kubernetes in Docker with Knative, Kourier and PostgreSQL
	@e2e/cluster/kind.sh

e2e-kind: ## deploy to it, and the journeys and what a cluster does, through Kourier
	@. e2e/cluster/kind.env && $(MAKE) --no-print-directory deploy && $(MAKE) --no-print-directory e2e-here

sign: ## every image of release.yaml, keyless; writes images.sha256: cosign
	@sed -n 's/.*image: \(.*@sha256:[0-9a-f]*\)$$/\1/p' release.yaml | sort -u | xargs -n 1 cosign sign --yes
	@sed -n 's/.*image: \(.*\)@sha256:\([0-9a-f]*\)$$/\2  \1/p' release.yaml | sort -u >images.sha256

publish: ## a release on GitHub of the tag TAG, with release.yaml: gh
	gh release create "$(TAG)" --verify-tag --generate-notes release.yaml images.sha256

experiment: ## kn experiment ARGS, as in: make experiment ARGS="plan -f knative/experiments/likes.yaml"
	@$(GO) run ./cmd/kn-experiment $(ARGS)

# What a workflow is told comes as VERB and EXPERIMENT, from the shell: make would take a $ in it for its own.
experiment-step: ## one VERB of the EXPERIMENT, a file of knative/experiments without its .yaml; report.html or report.txt has what is known after it
	@file="knative/experiments/$$EXPERIMENT.yaml"; case "$$VERB" in \
	  plan) $(GO) run ./cmd/kn-experiment plan -f "$$file" >report.txt; status=$$?; cat report.txt; exit $$status;; \
	  start) $(GO) run ./cmd/kn-experiment start -f "$$file" || exit;; \
	  report) ;; \
	  *) $(GO) run ./cmd/kn-experiment "$$VERB" "$$EXPERIMENT" || exit;; \
	esac; $(GO) run ./cmd/kn-experiment report "$$EXPERIMENT" -o html >report.html

# What Go cannot bring along is installed where it is missing: $(call install,apt-get's packages,brew's,what else helps)
install = if command -v apt-get >/dev/null; then echo "installing $(1) with apt-get"; SUDO=$$([ "$$(id -u)" = 0 ] || echo sudo); $$SUDO apt-get update -qq && $$SUDO apt-get install -y -qq $(1); \
	  elif command -v brew >/dev/null; then echo "installing $(2) with brew"; brew install -q $(2); \
	  else echo "install $(3)"; exit 1; fi

# Built here rather than by the first test that wants them, whose clock is running. Without the clouds' discoveries, which
# are nine tenths of it.
prometheus:
	@GOFLAGS="$(GOFLAGS) -tags=remove_all_sd" $(GO) -C tools/prometheus tool -n promtool >/dev/null
	@GOFLAGS="$(GOFLAGS) -tags=remove_all_sd" $(GO) -C tools/prometheus tool -n prometheus >/dev/null

postgres:
	@if [ -z "$$DATABASE_URL$$PGBIN" ] && ! command -v initdb >/dev/null && ! ls /usr/lib/postgresql/*/bin/initdb /opt/homebrew/opt/postgresql*/bin/initdb /usr/local/opt/postgresql*/bin/initdb >/dev/null 2>&1; then \
	  $(call install,postgresql,postgresql@17,PostgreSQL 15 to 18 (or set PGBIN or DATABASE_URL)); \
	fi

pgbouncer:
	@if ! command -v pgbouncer >/dev/null && ! [ -x /usr/sbin/pgbouncer ]; then $(call install,pgbouncer,pgbouncer,PgBouncer); fi

node:
	@if ! command -v npm >/dev/null; then $(call install,nodejs npm,node,Node 18 or later with npm); fi

chromium:
	@if [ -z "$$CHROMIUM" ] && ! command -v chromium >/dev/null && ! command -v chromium-browser >/dev/null && ! command -v google-chrome >/dev/null; then $(call install,chromium fonts-liberation,--cask chromium,Chromium (or set CHROMIUM)); fi

shellcheck:
	@if ! command -v shellcheck >/dev/null; then $(call install,shellcheck,shellcheck,shellcheck); fi
