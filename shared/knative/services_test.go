package knative_test

import (
	"encoding/json"
	"fmt"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A promotion must not write a Service that Flux or Argo CD applies again.
func TestAServiceIsManagedOnlyByToolsThatApplyItAgain(t *testing.T) {
	t.Parallel()
	// wroteBy returns metadata in which these field managers have written fields.
	wroteBy := func(managers ...string) string {
		var entries []metav1.ManagedFieldsEntry
		for _, manager := range managers {
			entries = append(entries, metav1.ManagedFieldsEntry{
				Manager: manager, Operation: metav1.ManagedFieldsOperationApply, APIVersion: "serving.knative.dev/v1",
				FieldsType: "FieldsV1", FieldsV1: &metav1.FieldsV1{Raw: []byte(`{"f:spec":{"f:template":{}}}`)},
			})
		}
		text, err := json.Marshal(metav1.ObjectMeta{Name: "tweet", ManagedFields: entries})
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	labelled := func(where, key string) string { return fmt.Sprintf(`{"name": "tweet", %q: {%q: "apps"}}`, where, key) }
	for name, c := range map[string]struct{ metadata, want string }{
		"nobody":                          {`{"name": "tweet"}`, ""},
		"kubectl":                         {wroteBy("kubectl", "kubectl-client-side-apply", "kubectl-edit"), ""},
		"kn":                              {wroteBy("kn"), ""},
		"Knative's controller":            {wroteBy("controller"), ""},
		"a deployment of Warble":          {wroteBy("warble-deploy"), ""},
		"steer, in an earlier promotion":  {wroteBy("warble-steer"), ""},
		"Flux's kustomize-controller":     {wroteBy("kustomize-controller"), "Flux"},
		"Flux's helm-controller":          {wroteBy("helm-controller"), "Flux"},
		"Argo CD, server-side":            {wroteBy("argocd-controller"), "Argo CD"},
		"Argo CD, client-side":            {wroteBy("argocd-application-controller"), "Argo CD"},
		"a person, and then Flux":         {wroteBy("kn", "kubectl-edit", "kustomize-controller", "controller"), "Flux"},
		"Argo CD, and then steer":         {wroteBy("argocd-controller", "warble-steer"), "Argo CD"},
		"Flux's label of a Kustomization": {labelled("labels", "kustomize.toolkit.fluxcd.io/name"), "Flux"},
		"Flux's label of a HelmRelease":   {labelled("labels", "helm.toolkit.fluxcd.io/name"), "Flux"},
		"Argo CD's tracking annotation":   {labelled("annotations", "argocd.argoproj.io/tracking-id"), "Argo CD"},
		"Argo CD's label":                 {labelled("labels", "argocd.argoproj.io/instance"), "Argo CD"},
		"a label without a value":         {`{"name": "tweet", "labels": {"kustomize.toolkit.fluxcd.io/name": ""}}`, ""},
		"labels of both":                  {`{"name": "tweet", "labels": {"kustomize.toolkit.fluxcd.io/name": "apps"}, "annotations": {"argocd.argoproj.io/tracking-id": "apps"}}`, "Argo CD"},
	} {
		_, cluster := serve(t, map[string]answer{"GET services": listOf("Service", `{"metadata": `+c.metadata+`, "spec": {"template": {"spec": {"containers": [{}]}}}}`)})
		for range 20 { // the answer must be the same each time, because the status names it
			all, err := cluster.Services(t.Context(), nil)
			if err != nil || len(all) != 1 || all[0].Manager != c.want {
				t.Errorf("%s: %+v %v: expected the manager %q", name, all, err, c.want)
				break
			}
		}
	}
}
