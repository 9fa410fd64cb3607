# The parts of the cluster: Debian's packages, and programs and images built from Go modules.
# shellcheck shell=bash

debian_packages() {
  local package missing=()
  for package in ca-certificates containerd containernetworking-plugins curl docker-registry etcd-server gettext-base \
    iproute2 nftables openssl postgresql runc util-linux; do
    dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  # policy-rc.d keeps Debian from starting the installed services, because this cluster has its own registry, etcd and containerd.
  local policy=/usr/sbin/policy-rc.d
  if ! [ -e $policy ]; then
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod 755 $policy
  fi
  apt-get update -q
  # Another installation may be running: a fresh machine updates itself.
  DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -q --no-install-recommends "${missing[@]}"
}

# version MODULE: prints the version that modules/go.mod requires. (go list would also need the modules that are replaced.)
version() { awk -v module="$1" '$1 == module { print $2; exit }' "$modules/go.mod"; }

# source_of MODULE: prints the folder of its files. It downloads the module first, because go list has no folder before that.
source_of() { (cd "$source" && go mod download "$1" && go list -m -f '{{.Dir}}' "$1"); }

# Everything is built in a copy of modules/ with a copy of lego beside it. Traefik links the 220 DNS providers of lego, and a
# module proxy may refuse several of their modules. The copy of lego leaves the providers out.
# shellcheck disable=SC2046 # names without spaces
source_folder() { once "$source.sum" $(module_files) -- copy_source; }
module_files() { find "$modules" -type f | sort; }

copy_source() {
  local lego from
  rm -rf "$source"
  cp -r "$modules" "$source"
  from=$(go -C / mod download -json "github.com/go-acme/lego/v5@$(version github.com/go-acme/lego/v5)" | sed -n 's/.*"Dir": "\(.*\)",*/\1/p')
  lego=$source/lego
  mkdir "$lego"
  tar -C "$from" --mode=u+w -c --exclude=./providers/dns --exclude=./docs --exclude=./e2e --exclude=./cmd . | tar -C "$lego" -x
  mkdir -p "$lego/providers/dns"
  cp "$modules/traefik/lego-dns.go.txt" "$lego/providers/dns/dns.go"
}

# One build of all packages, before anything is linked: ko starts a go build for each image, and two builds would compile the same packages
# at the same time.
compile() { once "$source.compiled" "$modules"/go.{mod,sum} "$modules"/*/main.go -- go -C "$source" list -trimpath -export -deps -f '{{""}}' ./kubernetes ./coredns tool; }

# The programs of the node and of the control plane are one binary with five names. kubectl is a separate binary, because it is started hundreds of times.
kubernetes() { once "$bin/.kubernetes" "$modules"/go.{mod,sum} "$modules/kubernetes/main.go" -- build_kubernetes; }

build_kubernetes() {
  local v name x=k8s.io/component-base/version
  v=$(version k8s.io/kubernetes)
  go -C "$source" build -trimpath -ldflags "-s -w -X $x.gitVersion=$v -X $x.gitMajor=1 -X $x.gitMinor=$(cut -d. -f2 <<<"$v")" -o "$bin/" \
    ./kubernetes k8s.io/kubernetes/cmd/kubectl
  for name in kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy; do ln -sf kubernetes "$bin/$name"; done
}

tools() {
  once "$bin/.ko" "$root"/tools/ko/go.{mod,sum} -- go -C "$root/tools/ko" build -trimpath -ldflags '-s -w' -o "$bin/" github.com/google/ko
  go -C "$root" build -trimpath -ldflags '-s -w' -o "$bin/" ./e2e/cluster/pause
  go -C "$root/e2e/images" build -trimpath -ldflags '-s -w' -o "$bin/" ./baseimage
}

# The base image of functions, and the image that keeps a pod's namespaces open.
base_images() {
  baseimage "$REGISTRY/base:latest" >"$images/base"
  once "$images/pause.sum" "$bin/pause" "$images/base" -- resolve pause "$root" <<<'image: ko://warble/e2e/cluster/pause'
}

# resolve NAME FOLDER [-f FILE...]: builds and pushes the ko:// images of manifests, from FOLDER's module, and stores the
# manifests, with digests, in $images/NAME.yaml.
resolve() {
  local name=$1 folder=$2
  shift 2
  [ $# -gt 0 ] || set -- -f -
  (cd "$folder" && KO_CONFIG_PATH=$root/ko.yaml ko resolve --base-import-paths --sbom=none "$@" >"$images/$name.yaml.tmp")
  mv "$images/$name.yaml.tmp" "$images/$name.yaml"
}

# image NAME -f FILE...: the same for images from modules/, once.
image() {
  local name=$1
  shift
  # shellcheck disable=SC2046 # names without spaces
  once "$images/$name.sum" $(module_files) "$images/base" -- resolve "$name" "$source" "$@"
}

coredns_image() { image coredns -f "$source/coredns/coredns.yaml"; }

traefik_image() { image traefik -f "$source/traefik/traefik.yaml"; }

# A module's zip has no symbolic links, so files that Serving's config links to are copied from their modules.
serving_image() {
  local core networking
  core=$(source_of knative.dev/serving)/config/core
  networking=$(source_of knative.dev/networking)/config
  image serving -f "$core/100-namespace.yaml" -f "$core/200-roles" -f "$core/200-serviceaccount.yaml" -f "$core/300-knativecertificate.yaml" \
    -f "$core/configmaps" -f "$networking/config-network.yaml" -f "$core/webhooks" -f "$core/999-cache.yaml" \
    -f "$core/300-resources" -f "$networking/certificate.yaml" -f "$networking/ingress.yaml" -f "$networking/serverlessservice.yaml" \
    -f "$networking/domain-claim.yaml" -f "$(source_of knative.dev/caching)/config/image.yaml" \
    -f "$core/deployments/activator.yaml" -f "$core/deployments/autoscaler.yaml" -f "$core/deployments/controller.yaml" -f "$core/deployments/webhook.yaml"
}

# Eventing's controller names images of two kinds of sources. Nothing here uses those kinds, so the images are not built.
eventing_image() {
  local config core broker controller=$images/eventing-controller.yaml
  config=$(source_of knative.dev/eventing)/config
  core=$config/core broker=$config/brokers/mt-channel-broker
  sed 's,ko://knative.dev/eventing/cmd/\(apiserver_receive_adapter\|auth_proxy\),none,' "$core/deployments/controller.yaml" >"$controller"
  image eventing --recursive -f "$core/100-namespace.yaml" -f "$core/resources" -f "$config/channels/in-memory-channel" \
    -f "$core/200-eventing-serviceaccount.yaml" -f "$core/200-job-sink-serviceaccount.yaml" -f "$core/200-webhook-serviceaccount.yaml" \
    -f "$core/200-pingsource-mt-adapter-serviceaccount.yaml" -f "$core/200-request-reply-serviceaccount.yaml" \
    -f "$core/configmaps" -f "$core/roles" -f "$core/webhooks" \
    -f "$controller" -f "$core/deployments/webhook.yaml" -f "$core/deployments/pingsource-mt-adapter.yaml" \
    -f "$config/../third_party/eventing-integrations-latest" -f "$broker/roles" \
    -f "$broker/deployments/broker-filter.yaml" -f "$broker/deployments/broker-ingress.yaml" -f "$broker/deployments/controller.yaml"
}
