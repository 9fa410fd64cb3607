package main

import clientcmd "k8s.io/client-go/tools/clientcmd/api/v1"

const (
	// kubeconfig is the file of the state folder with which `kn experiment` reaches the control plane.
	kubeconfig = "kubeconfig"
	// controlFolder has the control plane's token, certificate and address. The next run uses them again, even with -fresh, so that a
	// shell with KUBECONFIG still works.
	controlFolder = "warble-control"
)

// writeKubeconfig writes the kubeconfig for the control plane. The file is JSON, which is valid YAML.
func writeKubeconfig(s state, address, token string, authority []byte) error {
	const name = "warble-local"
	return replaceFile(s.path(kubeconfig), clientcmd.Config{
		APIVersion: "v1", Kind: "Config", CurrentContext: name,
		Clusters:  []clientcmd.NamedCluster{{Name: name, Cluster: clientcmd.Cluster{Server: "https://" + address, CertificateAuthorityData: authority}}},
		AuthInfos: []clientcmd.NamedAuthInfo{{Name: name, AuthInfo: clientcmd.AuthInfo{Token: token}}},
		Contexts:  []clientcmd.NamedContext{{Name: name, Context: clientcmd.Context{Cluster: name, AuthInfo: name, Namespace: namespace}}},
	})
}
