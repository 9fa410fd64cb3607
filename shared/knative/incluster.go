package knative

import (
	"os"
	"strings"

	"k8s.io/client-go/rest"
)

// namespaceFile is where a pod reads which namespace it is in.
const namespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// Inside is how the pod of this process reaches the API server, and which namespace it is in.
func Inside() (config *rest.Config, namespace string, err error) {
	if config, err = rest.InClusterConfig(); err != nil {
		return nil, "", err
	}
	text, err := os.ReadFile(namespaceFile)
	return config, strings.TrimSpace(string(text)), err
}
