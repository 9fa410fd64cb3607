// Package kubeconfig finds a cluster in the same way as kubectl. It is a separate package because clientcmd is large. Functions
// import warble/shared/knative, run inside the cluster, and do not need it.
package kubeconfig

import (
	"cmp"
	"errors"
	"fmt"
	"os"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Flags are the flags of kubectl. An empty field means kubectl's default.
type Flags struct {
	File      string // --kubeconfig; default: the files of KUBECONFIG, or ~/.kube/config, or this pod's service account
	Context   string // --context; default: the file's current context
	As        string // --as: the user to impersonate
	Namespace string // --namespace; default: the namespace of the context
}

// ErrNoCluster is returned if no file names a cluster, and the process does not run in a pod.
var ErrNoCluster = errors.New("no cluster")

// Load returns the configuration for a cluster, and the namespace of the flag or of the context. namespace is empty if neither names
// one; kubectl would use "default", but a caller may have a better default. Errors: ErrNoCluster, and mistakes in the file.
func Load(f Flags) (config *rest.Config, namespace string, err error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = f.File
	rules.WarnIfAllMissing = false // the error below says so
	loaded := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: f.Context})
	config, err = loaded.ClientConfig()
	switch {
	case clientcmd.IsEmptyConfig(err):
		return nil, "", fmt.Errorf("%w: %s", ErrNoCluster, f.missing())
	case err != nil:
		return nil, "", err
	}
	if f.As != "" { // not by an override, which clientcmd ignores in a pod
		config.Impersonate.UserName = f.As
	}
	if f.Namespace != "" {
		return config, f.Namespace, nil
	}
	raw, err := loaded.RawConfig()
	if err != nil {
		return nil, "", err
	}
	if context := raw.Contexts[cmp.Or(f.Context, raw.CurrentContext)]; context != nil && context.Namespace != "" {
		return config, context.Namespace, nil
	}
	namespace, _, err = loaded.Namespace() // in a pod, the pod's namespace
	if namespace == "default" {            // clientcmd's default, not a name that somebody chose
		namespace = ""
	}
	return config, namespace, err
}

// missing returns the text that says where Load looked for a cluster.
func (f Flags) missing() string {
	const expected = "expected the file by which kubectl reaches the cluster"
	switch path := os.Getenv(clientcmd.RecommendedConfigPathEnvVar); {
	case f.File != "":
		return fmt.Sprintf("%s names none: %s", f.File, expected)
	case path != "":
		return fmt.Sprintf("KUBECONFIG is %s, which names none or is not there: %s", path, expected)
	}
	return "KUBECONFIG is not set, and there is no ~/.kube/config: " + expected
}
