package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"warble/shared/rollout"
)

// fieldManager owns the fields that the manifests set (server-side apply). Other fields, such as a Service's traffic, keep their owner. So a
// deployment does not undo a split that somebody has made.
const fieldManager = "warble-deploy"

// Resources that are read and changed without a manifest, with their names in knative.Objects.
const (
	pods         = "v1/pods"
	coreServices = "v1/services"
	jobs         = "batch/v1/jobs"
	services     = "serving.knative.dev/v1/services"
	revisions    = "serving.knative.dev/v1/revisions"
)

// apply creates or changes objects, in order, even if somebody else manages them.
func (d *deployment) apply(ctx context.Context, objects []*object) error {
	for _, o := range objects {
		text, err := encode([]*object{o})
		if err == nil {
			err = d.cluster.Apply(ctx, o.APIVersion, o.Kind, o.Metadata.Name, text, true, false)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", o, err)
		}
	}
	return nil
}

// unlessNotFound returns nil if the cluster does not have the object, and err otherwise.
func unlessNotFound(err error) error {
	if errors.Is(err, rollout.ErrNotFound) {
		return nil
	}
	return err
}

// held is a secret or config map in the cluster.
type held struct {
	Metadata struct {
		Name                string
		CreationTimestamp   string
		Labels, Annotations map[string]string
	}
	Data map[string]string
}

// holdings are the namespace's secrets and config maps, by kind in lower case, and name.
type holdings map[[2]string]*held

func (h holdings) secret(name string) *held { return h[[2]string{"secret", name}] }

func (h holdings) configMap(name string) *held { return h[[2]string{"configmap", name}] }

// readHoldings reads all secrets and config maps of the namespace.
func (d *deployment) readHoldings(ctx context.Context) (holdings, error) {
	all := make(holdings)
	for _, kind := range []string{"secret", "configmap"} {
		var list struct{ Items []*held }
		if err := d.cluster.List(ctx, &list, "v1/"+kind+"s", ""); err != nil {
			return nil, err
		}
		for _, h := range list.Items {
			if kind == "secret" {
				for key, value := range h.Data {
					decoded, err := base64.StdEncoding.DecodeString(value)
					if err != nil {
						return nil, fmt.Errorf("secret %s, key %s: %w", h.Metadata.Name, key, err)
					}
					h.Data[key] = string(decoded)
				}
			}
			all[[2]string{kind, h.Metadata.Name}] = h
		}
	}
	return all, nil
}

// managedBy is the label of the secrets that this command has made. It does not change others.
const managedBy = "app.kubernetes.io/managed-by"

// write creates a secret or config map, or replaces the data of the present one, before. If before is nil and somebody else creates it at the
// same time, write returns an error and does not replace it.
func (d *deployment) write(ctx context.Context, before *held, kind, name string, data, annotations map[string]string) error {
	metadata := map[string]any{"name": name, "namespace": d.namespace, "labels": map[string]string{managedBy: fieldManager}}
	if len(annotations) > 0 {
		metadata["annotations"] = annotations
	}
	object := map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
	if kind == "secret" {
		encoded := make(map[string][]byte) // encoding/json writes []byte in base64, as a Secret needs it
		for key, value := range data {
			encoded[key] = []byte(value)
		}
		object["kind"], object["data"] = "Secret", encoded
	}
	text, err := json.Marshal(object)
	if err != nil {
		return err
	}
	return d.cluster.Apply(ctx, "v1", object["kind"].(string), name, text, before != nil, false)
}

// value returns the value of a key. It works on nil.
func (h *held) value(key string) (string, bool) {
	if h == nil {
		return "", false
	}
	value, ok := h.Data[key]
	return value, ok
}

// keys returns the list of keys, for a message.
func (h *held) keys() string {
	if len(h.Data) == 0 {
		return "none"
	}
	return strings.Join(slices.Sorted(maps.Keys(h.Data)), ", ")
}
