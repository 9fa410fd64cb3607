package knative

import (
	"os"
	"strings"

	"k8s.io/client-go/rest"
)

// namespaceFile has the name of a pod's namespace.
const namespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// Inside returns the configuration with which this process's pod reaches the API server, and the pod's namespace. It is an error
// outside a pod.
func Inside() (config *rest.Config, namespace string, err error) {
	if config, err = rest.InClusterConfig(); err != nil {
		return nil, "", err
	}
	text, err := os.ReadFile(namespaceFile)
	return config, strings.TrimSpace(string(text)), err
}
