package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// klog is a line of kubectl's own log, which says what its last line says once more, in a programmer's words.
var klog = regexp.MustCompile(`(?m)^[EWI]\d{4} .*\n`)

// execute runs a command and returns its standard output. Its error is what the command said, or where nothing, how it
// ended. Arguments may be read by anybody on this machine, so what is secret comes by input.
func execute(ctx context.Context, input []byte, name string, arguments ...string) ([]byte, error) {
	command := exec.CommandContext(ctx, name, arguments...)
	command.Stdin = bytes.NewReader(input)
	var said bytes.Buffer
	command.Stderr = &said
	output, err := command.Output()
	if err != nil {
		if text := klog.ReplaceAllString(said.String(), ""); strings.TrimSpace(text) != "" && ctx.Err() == nil {
			err = errors.New(strings.TrimSpace(text))
		}
		return output, fmt.Errorf("%s: %w", filepath.Base(name), err)
	}
	return output, nil
}

// kubectl speaks to the current context.
type kubectl struct{ namespace string }

// fieldManager is who owns, in the cluster's books, the fields that the manifests set. Those that they leave out, such as the
// traffic of a Service, stay whoever's they are: a deployment undoes no split that somebody made.
const fieldManager = "warble-deploy"

// errNotFound is returned for an object that the cluster does not have.
var errNotFound = errors.New("not found")

func (k kubectl) run(ctx context.Context, input []byte, arguments ...string) ([]byte, error) {
	output, err := execute(ctx, input, "kubectl", append([]string{"--request-timeout=30s", "--namespace=" + k.namespace}, arguments...)...)
	if err != nil && strings.Contains(err.Error(), "(NotFound)") {
		err = fmt.Errorf("%w: %w", errNotFound, err)
	}
	return output, err
}

// get reads an object, or a list of them, into value.
func (k kubectl) get(ctx context.Context, value any, arguments ...string) error {
	output, err := k.run(ctx, nil, append([]string{"get", "--output=json"}, arguments...)...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(output, value); err != nil {
		return fmt.Errorf("kubectl get %s: %w", strings.Join(arguments, " "), err)
	}
	return nil
}

// apply makes or changes objects, in their order. more are further flags.
func (k kubectl) apply(ctx context.Context, objects []*object, more ...string) error {
	text, err := encode(objects)
	if err != nil || len(objects) == 0 {
		return err
	}
	return k.applyText(ctx, text, more...)
}

func (k kubectl) applyText(ctx context.Context, text []byte, more ...string) error {
	_, err := k.run(ctx, text, append([]string{
		"apply", "--server-side", "--force-conflicts", "--field-manager=" + fieldManager, "--filename=-",
	}, more...)...)
	return err
}

// held is a secret or config map as the cluster has it.
type held struct {
	Kind     string
	Metadata struct {
		Name                string
		CreationTimestamp   string
		Labels, Annotations map[string]string
	}
	Data map[string]string
}

// holdings are those of the namespace by kind, in lower case, and name.
type holdings map[[2]string]*held

// holdings reads them all at once.
func (k kubectl) holdings(ctx context.Context) (holdings, error) {
	var list struct{ Items []*held }
	if err := k.get(ctx, &list, "secrets,configmaps"); err != nil {
		return nil, err
	}
	all := make(holdings, len(list.Items))
	for _, h := range list.Items {
		if h.Kind == "Secret" {
			for key, value := range h.Data {
				decoded, err := base64.StdEncoding.DecodeString(value)
				if err != nil {
					return nil, fmt.Errorf("secret %s, key %s: %w", h.Metadata.Name, key, err)
				}
				h.Data[key] = string(decoded)
			}
		}
		all[[2]string{strings.ToLower(h.Kind), h.Metadata.Name}] = h
	}
	return all, nil
}

// managedBy labels the secrets that this command has made. Others it uses as they are.
const managedBy = "app.kubernetes.io/managed-by"

// store makes a secret or config map, or gives the one that is there, before, other data. One that somebody else makes at
// the same time is not replaced, but an error.
func (k kubectl) store(ctx context.Context, before *held, kind, name string, data, annotations map[string]string) error {
	metadata := map[string]any{"name": name, "namespace": k.namespace, "labels": map[string]string{managedBy: fieldManager}}
	if len(annotations) > 0 {
		metadata["annotations"] = annotations
	}
	object := map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
	if kind == "secret" {
		encoded := make(map[string][]byte) // which JSON has in base64, as a Secret does
		for key, value := range data {
			encoded[key] = []byte(value)
		}
		object["kind"], object["data"] = "Secret", encoded
	}
	text, err := json.Marshal(object)
	if err != nil {
		return err
	}
	if before == nil {
		_, err := k.run(ctx, text, "create", "--filename=-")
		return err
	}
	return k.applyText(ctx, text)
}

// value returns what is held under key.
func (h *held) value(key string) (string, bool) {
	if h == nil {
		return "", false
	}
	value, ok := h.Data[key]
	return value, ok
}

// keys lists what is held, for a message.
func (h *held) keys() string {
	if len(h.Data) == 0 {
		return "none"
	}
	return strings.Join(slices.Sorted(maps.Keys(h.Data)), ", ")
}

// kinds returns the kinds of a group's version, as in "serving.knative.dev/v1"; none where the cluster does not know it.
func (k kubectl) kinds(ctx context.Context, apiVersion string) ([]string, error) {
	output, err := k.run(ctx, nil, "get", "--raw=/apis/"+apiVersion)
	if errors.Is(err, errNotFound) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var list struct{ Resources []struct{ Kind string } }
	if err := json.Unmarshal(output, &list); err != nil {
		return nil, fmt.Errorf("kinds of %s: %w", apiVersion, err)
	}
	var kinds []string
	for _, resource := range list.Resources {
		kinds = append(kinds, resource.Kind)
	}
	return kinds, nil
}
