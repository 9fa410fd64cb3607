package main

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"warble/cmd/deploy/clustertest"
	"warble/shared/knative"
	"warble/shared/knative/kubeconfig"
	"warble/shared/rollout"
)

// TestASecretOfSomebodyElseIsNotReplaced: somebody may make a secret after this deployment has read the cluster.
func TestASecretOfSomebodyElseIsNotReplaced(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	cluster, err := clustertest.Start(folder, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	config, _, err := kubeconfig.Load(kubeconfig.Flags{File: filepath.Join(folder, "kubeconfig")})
	if err != nil {
		t.Fatal(err)
	}
	d := deployment{manifests: &manifests{namespace: "warble"}}
	store := func(manager, key string) error {
		if d.cluster, err = knative.NewObjects(config, "warble", manager); err != nil {
			t.Fatal(err)
		}
		return d.write(t.Context(), nil, "secret", edgeSecret, map[string]string{edgeKey: key}, nil)
	}
	if err := store("terraform", "theirs"); err != nil {
		t.Fatal(err)
	}
	err = store(fieldManager, "ours")
	if !errors.Is(err, rollout.ErrConflict) || !strings.Contains(err.Error(), `conflict with "terraform" using v1: .data.key`) {
		t.Errorf("the second: %v", err)
	}
	held, err := d.readHoldings(t.Context())
	if got := held[[2]string{"secret", edgeSecret}].Data[edgeKey]; err != nil || got != "theirs" {
		t.Errorf("the cluster has %q: %v", got, err)
	}
}
