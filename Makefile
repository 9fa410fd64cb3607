# The verbs of Warble. CI (.ci/run) calls these and nothing else.
export KO_CONFIG_PATH = ko.yaml

# As in an image, where ko builds with -trimpath and without cgo: what is compiled for one is compiled for the other. Without
# tables for a debugger, for linking is most of a warm build.
export CGO_ENABLED ?= 0
export GOFLAGS     := $(filter-out -trimpath -ldflags=%,$(GOFLAGS)) -trimpath -ldflags=-w

GO   ?= go
TOOL  = $(GO) tool -modfile=tools/go.mod
# Formats, validates and tests; what is to download providers or reach Azure takes a terraform from PATH.
TERRAFORM = TF_CLI_CONFIG_FILE=/dev/null $(GO) -C tools/terraform tool terraform
# How long each fuzz test runs, and what `make run` and `make deploy` are given, as in: make run ARGS="-demo"
FUZZTIME ?= 20s
ARGS     ?=
export STACK ?= 01-cluster 02-database 03-application 04-observability
# How many processes `make kills` kills, and which: 0 for other ones each time.
KILLS    ?= 1000
SEED     ?= 0

# What is generated: the definitions of the resources Experiment and Metric in the cluster, copies of their types, and pages of docs.
CRD       = knative/210-experiment-crd.yaml knative/211-metric-crd.yaml
GENERATED = $(CRD) $(wildcard shared/*/zz_generated.deepcopy.go) docs/experiment-resource.md docs/metrics.md

# No file is made but by what these say, so all of them run whenever they are asked for.
.PHONY: $(shell sed -n 's/^\([a-z][a-z0-9-]*\):.*/\1/p' $(firstword $(MAKEFILE_LIST)) | sort -u)

help: ## this list
	@awk -v columns=80 -f tools/help.awk $(MAKEFILE_LIST)

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

deploy: ## Cluster: build and apply to kubectl's current context; KO_DOCKER_REPO, DATABASE_DIRECT_URL (ARGS="candidate", "promote", "check", "secrets", "rotate-keys")
	@$(GO) run ./cmd/deploy $(ARGS)

release: ## Release: release.yaml, which kubectl apply takes; KO_DOCKER_REPO
	@$(GO) run ./cmd/deploy release release.yaml

# go vet is make check's: here it would read every dependency once more.
test: postgres ## Develop: every test, on a real PostgreSQL; needs nothing but Go and that
	$(GO) test $(RACE) -vet=off -shuffle=on -count=1 -timeout 15m ./...

race: export CGO_ENABLED := 1
race: RACE := -race
race: test ## Develop: the same with the race detector

test-infra: postgres prometheus terraform ## Develop: alerts and dashboards in a real Prometheus, every stack and module in a real Terraform
	$(GO) test -tags infra -vet=off -shuffle=on -count=1 -timeout 15m ./terraform/...

check: shellcheck ## Develop: format, vet, lint, workflows, tidy modules, generated files
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

fuzz: ## Develop: every fuzz test, 20 s each (FUZZTIME)
	tools/fuzz.sh $(FUZZTIME)

e2e: postgres pgbouncer ## Develop: journeys and faults, on a local run (WARBLE_URL, WARBLE_HOST: the journeys, on what they name)
	$(GO) test -tags e2e -v -count=1 -timeout 15m -skip '^TestClient|^TestCluster|^TestLong|^TestKills' ./e2e

kills: postgres pgbouncer ## Develop: SIGKILL to functions, relay, PostgreSQL and PgBouncer at random, under load, and what is lost: nothing (KILLS=1000, SEED)
	$(GO) test -tags e2e -v -count=1 -timeout 4h -run '^TestKills' ./e2e -kills $(KILLS) -seed $(SEED)

e2e-clients: postgres node tweepy ## Develop: the contract in redocly; six client libraries for X, of Go, Node and Python, on the same
	npm ci --silent --no-audit --no-fund --prefix e2e/clients/node
	cd e2e/clients/node && REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true npx --no-install redocly lint ../../../functions/openapi.yaml
	$(GO) test -tags e2e -v -count=1 -timeout 15m -run '^TestClient' ./e2e

e2e-cluster: ## Cluster: journeys, and what a cluster does, on the deployment in the cluster of this machine: after make cluster deploy
	@. e2e/cluster/env.sh && $(MAKE) --no-print-directory e2e-here WARBLE_URL=http://$$INGRESS_ADDRESS WARBLE_HOST=edge.warble.$$CLUSTER_DOMAIN

# Five at once, for so many wait side by side in TestClusterTakesItsTime. On any cluster: KUBECONFIG, KO_DOCKER_REPO, WARBLE_URL and WARBLE_HOST.
e2e-here: export WARBLE_URL := $(WARBLE_URL)
e2e-here: export WARBLE_HOST := $(WARBLE_HOST)
e2e-here:
	$(GO) test -tags e2e -v -count=1 -timeout 70m -parallel 5 -skip '^TestClient|^TestLong|^TestKills' ./e2e

e2e-long: ## Cluster: what takes the same cluster half an hour: verdicts on planted effects, deployments around an experiment, a release's candidate, the pages in a browser
	@. e2e/cluster/env.sh && WARBLE_URL=http://$$INGRESS_ADDRESS WARBLE_HOST=edge.warble.$$CLUSTER_DOMAIN \
	  $(GO) test -tags e2e -v -count=1 -timeout 60m -run '^TestLong' ./e2e
	@. e2e/cluster/env.sh && $(MAKE) --no-print-directory e2e-web WARBLE_URL=http://$$INGRESS_ADDRESS WARBLE_HOST=edge.warble.$$CLUSTER_DOMAIN

cold: ## Cluster: cold starts of functions beside a bare hello, 40 of each, and what the edge costs, on the same cluster; 13 minutes
	@. e2e/cluster/env.sh && WARBLE_URL=http://$$INGRESS_ADDRESS WARBLE_HOST=edge.warble.$$CLUSTER_DOMAIN \
	  $(GO) test -tags e2e -count=1 -timeout 60m -run '^$$' -bench . -benchtime 40x ./e2e

e2e-web: export WARBLE_URL := $(WARBLE_URL)
e2e-web: export WARBLE_HOST := $(WARBLE_HOST)
e2e-web: postgres chromium node ## Develop: the playground and the board in a browser, on a local run of its own or on WARBLE_URL, WARBLE_HOST and KUBECONFIG (SCREENSHOTS=folder keeps what they look like)
	npm ci --silent --no-audit --no-fund --prefix e2e/web
	$(GO) test -tags e2e -v -count=1 -timeout 30m -skip '^TestPictures' ./e2e/web

pictures: postgres chromium ## Develop: the README's pictures, from Warble itself: 8 minutes
	SCREENSHOTS=$(CURDIR)/docs/pictures $(GO) test -tags e2e -v -count=1 -timeout 30m -run '^TestPictures' ./e2e/web

e2e-report: postgres chromium ## Develop: the contract's page and an experiment's report in a browser, wide, on a phone and in the dark (SCREENSHOTS=folder keeps what it looks like)
	$(GO) test -tags e2e -v -count=1 -timeout 10m -run '^TestPage' ./functions/edge ./shared/report

simulate: ## Develop: what the readout of experiments promises, on 2000 simulated ones in each world: takes three quarters of an hour
	$(GO) test -v -count=1 -timeout 2h -run '^(TestPermuteLiftRates|TestJackknifeSequence)' ./shared/stats -simulated 2000
	$(GO) test -v -count=1 -timeout 2h -run '^TestWhatTheReadoutPromises' ./shared/readout -simulated 2000

images: ## Develop: every function's image: its size, its SBOM, the same digest from a second build; no registry or network needed
	$(GO) -C e2e/images test -count=1 -timeout 20m ./...

cluster: ## Cluster: Kubernetes and Knative on this machine: Linux, root, no Docker (CLUSTER_DIR)
	@e2e/cluster/up.sh

cluster-down: ## Cluster: stop it and leave nothing behind
	@e2e/cluster/down.sh

bench: postgres node ## Develop: throughput, latency, start-up and memory as ratios to bare equivalents
	npm ci --silent --no-audit --no-fund --prefix e2e/bench/peer
	$(GO) run ./e2e/bench

generate: ## Develop: what is written of the types in shared/experiment and shared/rollout: definitions in knative, deep copies; of that and of metrics: pages of docs
	@# It writes both definitions into one stream, by name: each begins with ---.
	$(TOOL) controller-gen paths=./shared/experiment paths=./shared/rollout object crd:allowDangerousTypes=true output:crd:stdout | \
	  awk 'BEGIN { split("$(CRD)", file, " ") } /^---$$/ { n++ } { print >file[n] }'
	$(GO) run ./docs/reference

fmt: ## Develop: gofmt and terraform fmt everything
	gofmt -w $$(git ls-files '*.go')
	$(TERRAFORM) fmt -recursive $(CURDIR)/terraform

vulnerabilities: ## Develop: known ones in what is linked; asks vuln.go.dev
	$(TOOL) govulncheck ./...

schemas: ## Develop: what Terraform's providers take, which test-infra holds the stacks to; downloads the providers
	$(GO) run ./terraform/schemas

state: ## Azure: the storage account of Terraform's state: STATE_ACCOUNT (LOCATION)
	@terraform/state.sh

# A workflow takes the providers that are locked, and no others.
stack: LOCKFILE := $(if $(CI),-lockfile=readonly)
stack: ## Azure: terraform ARGS in the stacks of STACK, all unless it says: STATE_ACCOUNT
	@test -n "$$STATE_ACCOUNT" || { echo "STATE_ACCOUNT is not set: expected the storage account that make state made"; exit 1; }
	@set -e; export TF_VAR_state_account="$$STATE_ACCOUNT"; for stack in $$STACK; do echo "== $$stack"; \
	  terraform -chdir="terraform/$$stack" init -input=false $(LOCKFILE) -backend-config=storage_account_name="$$STATE_ACCOUNT" >/dev/null; terraform -chdir="terraform/$$stack" $(ARGS); done

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

kubelogin:
	@command -v kubelogin >/dev/null || $$([ "$$(id -u)" = 0 ] || echo sudo) az aks install-cli

kind: ## Cluster: Kubernetes in Docker with Knative, Kourier and PostgreSQL
	@e2e/cluster/kind.sh

e2e-kind: ## Cluster: deploy to it, and the journeys and what a cluster does, through Kourier
	@. e2e/cluster/kind.env && $(MAKE) --no-print-directory deploy && $(MAKE) --no-print-directory e2e-here

sign: ## Release: every image of release.yaml and its SBOM, and the file itself, keyless; writes images.sha256: cosign
	@set -e; for image in $$(sed -n 's/.*image: \(.*@sha256:[0-9a-f]*\)$$/\1/p' release.yaml | sort -u); do cosign sign --yes "$$image"; \
	  cosign download sbom "$$image" >sbom.json; cosign attest --yes --type spdxjson --predicate sbom.json "$$image"; done; rm sbom.json
	@cosign sign-blob --yes --bundle release.yaml.bundle release.yaml
	@sed -n 's/.*image: \(.*\)@sha256:\([0-9a-f]*\)$$/\2  \1/p' release.yaml | sort -u >images.sha256

# Who signs is the workflow release, at the tag that was pushed.
SIGNER = --certificate-oidc-issuer https://token.actions.githubusercontent.com --certificate-identity "https://github.com/$$GITHUB_REPOSITORY/.github/workflows/release.yml@refs/tags/$$GITHUB_REF_NAME"

verify: ## Release: that the workflow of GITHUB_REPOSITORY signed release.yaml and its images at the tag GITHUB_REF_NAME: cosign
	@set -e; cosign verify-blob --bundle release.yaml.bundle $(SIGNER) release.yaml; \
	  for image in $$(sed -n 's/.*image: \(.*@sha256:[0-9a-f]*\)$$/\1/p' release.yaml | sort -u); do cosign verify $(SIGNER) "$$image" >/dev/null; done

publish: ## Release: a release on GitHub of the tag GITHUB_REF_NAME, with release.yaml: gh
	gh release create "$$GITHUB_REF_NAME" --verify-tag --generate-notes release.yaml release.yaml.bundle images.sha256

experiment: ## Use: kn experiment ARGS, as in: make experiment ARGS="plan -f knative/experiments/likes.yaml"
	@$(GO) run ./cmd/kn-experiment $(ARGS)

# What a workflow is told comes as VERB and EXPERIMENT, from the shell: make would take a $ in it for its own.
experiment-step: ## Use: one VERB of the EXPERIMENT, a file of knative/experiments without its .yaml; report.html or report.txt has what is known after it
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

terraform:
	@$(GO) -C tools/terraform tool -n terraform >/dev/null

postgres:
	@if [ -z "$$DATABASE_URL$$PGBIN" ] && ! command -v initdb >/dev/null && ! ls /usr/lib/postgresql/*/bin/initdb /opt/homebrew/opt/postgresql*/bin/initdb /usr/local/opt/postgresql*/bin/initdb 2>/dev/null | grep -q .; then \
	  $(call install,postgresql,postgresql@17,PostgreSQL 15 to 18 (or set PGBIN or DATABASE_URL)); \
	fi

pgbouncer:
	@if ! command -v pgbouncer >/dev/null && ! [ -x /usr/sbin/pgbouncer ]; then $(call install,pgbouncer,pgbouncer,PgBouncer); fi

node:
	@if ! command -v npm >/dev/null; then $(call install,nodejs npm,node,Node 20.19 or later with npm); fi

# Debian's package is for Debian's own Python: PYTHON names another one that has it.
tweepy:
	@if ! $${PYTHON:-/usr/bin/python3} -c 'import tweepy' 2>/dev/null; then \
	  if [ -n "$$PYTHON" ]; then echo "PYTHON is $$PYTHON, which has no tweepy: expected a Python 3 that has it"; exit 1; fi; \
	  $(call install,python3-tweepy,python-tweepy,tweepy for Python 3 (and set PYTHON)); \
	fi

chromium:
	@if [ -z "$$CHROMIUM" ] && ! command -v chromium >/dev/null && ! command -v chromium-browser >/dev/null && ! command -v google-chrome >/dev/null; then $(call install,chromium fonts-liberation,--cask chromium,Chromium (or set CHROMIUM)); fi

shellcheck:
	@if ! command -v shellcheck >/dev/null; then $(call install,shellcheck,shellcheck,shellcheck); fi
