package kubeconfig_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"warble/shared/knative/kubeconfig"
)

const file = `apiVersion: v1
kind: Config
current-context: plain
clusters: [{name: one, cluster: {server: "https://one.test"}}, {name: two, cluster: {server: "https://two.test"}}]
users: [{name: ada, user: {token: secret}}]
contexts:
- {name: plain, context: {cluster: one, user: ada}}
- {name: named, context: {cluster: two, user: ada, namespace: chirp}}
- {name: default, context: {cluster: two, user: ada, namespace: default}}
`

func TestLoad(t *testing.T) {
	t.Parallel()
	path := write(t, file)
	for name, c := range map[string]struct {
		flags                 kubeconfig.Flags
		host, namespace, user string
	}{
		"the current context names no namespace": {kubeconfig.Flags{}, "https://one.test", "", ""},
		"another context":                        {kubeconfig.Flags{Context: "named"}, "https://two.test", "chirp", ""},
		"a context that names default":           {kubeconfig.Flags{Context: "default"}, "https://two.test", "default", ""},
		"the flag wins over the context":         {kubeconfig.Flags{Context: "named", Namespace: "mine"}, "https://two.test", "mine", ""},
		"somebody else":                          {kubeconfig.Flags{As: "grace"}, "https://one.test", "", "grace"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.flags.File = path
			config, namespace, err := kubeconfig.Load(c.flags)
			if err != nil {
				t.Fatal(err)
			}
			if config.Host != c.host || namespace != c.namespace || config.Impersonate.UserName != c.user {
				t.Errorf("%s, namespace %q, as %q; want %s, %q, %q", config.Host, namespace, config.Impersonate.UserName, c.host, c.namespace, c.user)
			}
		})
	}
}

func TestLoadSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	_, _, err := kubeconfig.Load(kubeconfig.Flags{File: write(t, "apiVersion: v1\nkind: Config\n")})
	if !errors.Is(err, kubeconfig.ErrNoCluster) {
		t.Errorf("an empty file: %v", err)
	}
	for name, flags := range map[string]kubeconfig.Flags{
		"a file that is not there":    {File: filepath.Join(t.TempDir(), "none")},
		"a context that is not there": {File: write(t, file), Context: "none"},
		"a file that is not YAML":     {File: write(t, "\t{")},
	} {
		if _, _, err := kubeconfig.Load(flags); err == nil || errors.Is(err, kubeconfig.ErrNoCluster) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
