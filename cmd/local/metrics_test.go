package main

import (
	"net/http"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"warble/shared/rollout"
)

const orders = `{"apiVersion":"warble.dev/v1alpha1","kind":"Metric","metadata":{"name":"orders"},
	"spec":{"label":"Orders","unit":"orders","direction":"up","kind":"sum","event":{"type":"shop.order.v1","subjectIsUnit":true}}}`

// A client can do the same with metrics as in a cluster.
func TestMetricsAreKeptAsAnAPIServerKeepsThem(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	const json = "application/json"
	for _, tt := range []struct {
		method, path, body string
		want               int
		says               string
	}{
		{"POST", metricsPath, orders, http.StatusCreated, ""},
		{"POST", metricsPath, orders, http.StatusConflict, `metrics.warble.dev "orders" already exists`},
		{"POST", metricsPath, strings.Replace(orders, `"up"`, `"left"`, 1), http.StatusUnprocessableEntity, `direction: "left": expected up or down`},
		{"POST", metricsPath, strings.Replace(orders, `"sum"`, `"mean"`, 1), http.StatusUnprocessableEntity, "event.value: expected the path of a number"},
		{"POST", metricsPath, strings.Replace(orders, `"name":"orders"`, `"name":"latency"`, 1), http.StatusUnprocessableEntity, "metric of Warble's own"},
		{"POST", metricsPath, strings.Replace(orders, `"label"`, `"title"`, 1), http.StatusBadRequest, "spec.title"},
		{"PUT", metricsPath + "/orders", strings.Replace(orders, `"label":"Orders"`, `"label":"Sales"`, 1), http.StatusOK, ""},
		{"PUT", metricsPath + "/others", orders, http.StatusBadRequest, "expected others, as in the path"},
		{"PUT", metricsPath + "/others", strings.Replace(orders, `"name":"orders"`, `"name":"others"`, 1), http.StatusNotFound, "not found"},
		{"PUT", metricsPath + "/orders", strings.Replace(orders, `"name":"orders"`, `"name":"orders","resourceVersion":"1"`, 1), http.StatusConflict, "modified"},
		{"PATCH", metricsPath + "/orders", `{}`, http.StatusMethodNotAllowed, ""},
		{"DELETE", metricsPath + "/others", ``, http.StatusNotFound, "not found"},
	} {
		code, refusal := p.send(tt.method, tt.path, json, p.config.BearerToken, tt.body)
		if code != tt.want || !strings.Contains(refusal.Message, tt.says) {
			t.Errorf("%s %s %s: %d %s, want %d and %q", tt.method, tt.path, tt.body, code, refusal.Message, tt.want, tt.says)
		}
	}
	p.restart()
	found, err := p.cluster.Metrics(t.Context())
	if err != nil || len(found) != 1 {
		t.Fatalf("%+v, %v", found, err)
	}
	if found[0].Spec.Label != "Sales" || found[0].Spec.Event.Lag.String() != "15m" || found[0].UID == "" || found[0].Namespace != namespace {
		t.Errorf("%+v", found[0])
	}
	if err := p.cluster.CreateMetric(t.Context(), &rollout.Metric{ObjectMeta: metav1.ObjectMeta{Name: "others"}, Spec: found[0].Spec}); err != nil {
		t.Error(err)
	}
	if code, refusal := p.send("DELETE", metricsPath+"/orders", json, p.config.BearerToken, ""); code != http.StatusOK {
		t.Errorf("%d %+v", code, refusal)
	}
	if found, err = p.cluster.Metrics(t.Context()); err != nil || len(found) != 1 || found[0].Name != "others" {
		t.Errorf("%+v, %v", found, err)
	}
}
