# One authority, one certificate for each component, and a kubeconfig for each component that uses the API server.
# shellcheck shell=bash

certificates() {
  local pki=$run/pki name
  mkdir -m 700 "$pki"
  openssl ecparam -name prime256v1 -genkey -noout -out "$pki/ca.key"
  openssl req -x509 -new -key "$pki/ca.key" -subj /CN=kubernetes-ca -days 3650 -sha256 -addext basicConstraints=critical,CA:TRUE \
    -addext keyUsage=critical,keyCertSign,cRLSign,digitalSignature -out "$pki/ca.crt"
  openssl genrsa -out "$pki/service-account.key" 2048
  openssl rsa -in "$pki/service-account.key" -pubout -out "$pki/service-account.pub"
  certificate apiserver /CN=kube-apiserver serverAuth \
    "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local,IP:$API_SERVICE_IP,IP:$NODE_IP"
  certificate apiserver-kubelet /O=system:masters/CN=kube-apiserver-kubelet-client clientAuth
  certificate admin /O=system:masters/CN=kubernetes-admin clientAuth
  certificate controller-manager /CN=system:kube-controller-manager clientAuth
  certificate scheduler /CN=system:kube-scheduler clientAuth
  certificate kube-proxy /CN=system:kube-proxy clientAuth
  certificate kubelet "/O=system:nodes/CN=system:node:$NODE" clientAuth
  for name in admin controller-manager scheduler kube-proxy kubelet; do kubeconfig $name; done
}

# certificate NAME SUBJECT USAGE [SUBJECT-ALTERNATIVE-NAMES]
certificate() {
  local file=$run/pki/$1
  openssl ecparam -name prime256v1 -genkey -noout -out "$file.key"
  openssl req -new -key "$file.key" -subj "$2" |
    openssl x509 -req -CA "$run/pki/ca.crt" -CAkey "$run/pki/ca.key" -CAcreateserial -days 3650 -sha256 -out "$file.crt" -extfile <(
      echo keyUsage=critical,digitalSignature,keyEncipherment
      echo "extendedKeyUsage=$3"
      [ -z "${4:-}" ] || echo "subjectAltName=$4"
    )
}

kubeconfig() {
  cat >"$run/$1.kubeconfig" <<Y
apiVersion: v1
kind: Config
clusters:
  - {name: warble, cluster: {server: "https://$NODE_IP:6443", certificate-authority: $run/pki/ca.crt}}
users:
  - {name: $1, user: {client-certificate: $run/pki/$1.crt, client-key: $run/pki/$1.key}}
contexts:
  - {name: warble, context: {cluster: warble, user: $1}}
current-context: warble
Y
}
