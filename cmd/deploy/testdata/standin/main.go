// Command standin is kubectl, and a cluster behind it, or ko, as its name says: for the transcripts of cmd/deploy.
//
// The cluster is a folder, $CLUSTER, with one JSON file per object, called kind_name. What kubectl is asked is kept in the file
// calls. Files steer it: down, no-knative, experiments (it knows that kind), refuse (kind_name), broken_NAME (a
// Service that never gets ready), newest (the end of the new revisions' names), fail-job (how the names of Jobs that fail
// begin), and log, which is what every pod says.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

func main() {
	run := func() error { return kubectl(os.Args[1:], os.Getenv("CLUSTER"), os.Stdin, os.Stdout) }
	if filepath.Base(os.Args[0]) == "ko" {
		run = ko
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// says is what kubectl itself would print.
type says string

func (s says) Error() string { return string(s) }

const notFound says = "Error from server (NotFound): the server could not find the requested resource"

func kubectl(args []string, folder string, in io.Reader, out io.Writer) error {
	calls, err := os.OpenFile(filepath.Join(folder, "calls"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer calls.Close()
	fmt.Fprintln(calls, strings.Join(args, " "))
	steer := func(name string) (string, bool) {
		text, err := os.ReadFile(filepath.Join(folder, name))
		return strings.TrimSpace(string(text)), err == nil
	}
	var words, flags []string
	for _, arg := range args {
		if strings.HasPrefix(arg, "--") {
			flags = append(flags, arg)
		} else {
			words = append(words, arg)
		}
	}
	line := strings.Join(words, " ")
	switch {
	case line == "config current-context":
		fmt.Fprintln(out, "stand-in")
		return nil
	case slices.Contains(flags, "--raw=/readyz"):
		if _, down := steer("down"); down {
			return says("The connection to the server 10.0.0.1:6443 was refused - did you specify the right host or port?")
		}
		return nil
	case slices.Contains(flags, "--raw=/apis/serving.knative.dev/v1"):
		fmt.Fprint(out, `{"resources": [{"kind": "Service"}, {"kind": "Revision"}]}`)
		return nil
	case slices.Contains(flags, "--raw=/apis/batch/v1"):
		fmt.Fprint(out, `{"resources": [{"kind": "Job"}]}`)
		return nil
	case slices.Contains(flags, "--raw=/apis/rbac.authorization.k8s.io/v1"):
		fmt.Fprint(out, `{"resources": [{"kind": "ClusterRole"}, {"kind": "Role"}, {"kind": "RoleBinding"}]}`)
		return nil
	case slices.Contains(flags, "--raw=/apis/eventing.knative.dev/v1"):
		fmt.Fprint(out, `{"resources": [{"kind": "Broker"}, {"kind": "Trigger"}]}`)
		return nil
	case slices.Contains(flags, "--raw=/apis/sources.knative.dev/v1"):
		fmt.Fprint(out, `{"resources": [{"kind": "PingSource"}]}`)
		return nil
	case slices.Contains(flags, "--raw=/apis/apiextensions.k8s.io/v1"):
		fmt.Fprint(out, `{"resources": [{"kind": "CustomResourceDefinition"}]}`)
		return nil
	case slices.Contains(flags, "--raw=/apis/warble.dev/v1alpha1"):
		if _, known := steer("experiments"); !known {
			return notFound
		}
		fmt.Fprint(out, `{"resources": [{"kind": "Experiment"}]}`)
		return nil
	case line == "get experiments.warble.dev":
		return list(folder, out, "experiment_*")
	case words[0] == "get" && len(words) == 1:
		return notFound
	case line == "get crd services.serving.knative.dev":
		if _, missing := steer("no-knative"); missing {
			return notFound
		}
		fmt.Fprint(out, `{"metadata": {"labels": {"app.kubernetes.io/version": "1.23.0"}}}`)
		return nil
	case line == "get pods":
		fmt.Fprint(out, `{"items": [{"metadata": {"name": "pod"}, "spec": {"containers": [{"name": "user-container"}]}}]}`)
		return nil
	case words[0] == "logs":
		text, _ := steer("log")
		fmt.Fprintln(out, text)
		return nil
	case line == "get services.serving.knative.dev":
		return list(folder, out, "services.serving.knative.dev_*")
	case line == "get secrets,configmaps":
		return list(folder, out, "secret_*", "configmap_*")
	case words[0] == "get":
		text, ok := steer(words[1] + "_" + words[2])
		if !ok {
			return notFound
		}
		fmt.Fprint(out, text)
		return nil
	case words[0] == "patch" && words[1] == "services.serving.knative.dev":
		return patchService(words[2], folder, args[len(args)-1])
	case words[0] == "label":
		return nil
	case words[0] == "delete":
		err := os.Remove(filepath.Join(folder, words[1]+"_"+words[2]))
		if errors.Is(err, os.ErrNotExist) {
			return notFound
		}
		return err
	case words[0] == "apply", words[0] == "create":
		for decoder := yaml.NewDecoder(in); ; {
			var o map[string]any
			if err := decoder.Decode(&o); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
			if _, there := steer(file(o)); there && words[0] == "create" {
				return says("Error from server (AlreadyExists): " + file(o))
			}
			if err := apply(o, folder, slices.Contains(flags, "--dry-run=server"), steer); err != nil {
				return err
			}
		}
	}
	return fmt.Errorf("the stand-in does not know: kubectl %s", strings.Join(args, " "))
}

// file is what an object's file is called.
func file(o map[string]any) string {
	kind := strings.ToLower(o["kind"].(string))
	if strings.HasPrefix(o["apiVersion"].(string), "serving.") {
		kind = "services.serving.knative.dev"
	}
	return kind + "_" + o["metadata"].(map[string]any)["name"].(string)
}

type object map[string]any

func condition(kind, status, reason, message string) object {
	return object{"type": kind, "status": status, "reason": reason, "message": message}
}

// apply keeps o, with the status that controllers would give it.
func apply(o object, folder string, dry bool, steer func(string) (string, bool)) error {
	if refused, _ := steer("refuse"); refused == file(o) {
		return says(`Error from server (BadRequest): admission webhook "validation.webhook.serving.knative.dev" denied the request: validation failed: expected 0 <= -1 <= 1000: spec.template.spec.containerConcurrency`)
	}
	if dry {
		return nil
	}
	metadata := o["metadata"].(map[string]any)
	metadata["creationTimestamp"] = time.Now().UTC().Format(time.RFC3339)
	metadata["generation"] = 1
	name := metadata["name"].(string)
	newest := name + "-00002"
	if o["kind"] == "Service" {
		o["spec"].(map[string]any)["traffic"] = []any{map[string]any{"latestRevision": true, "percent": 100}}
	}
	if text, ok := steer(file(o)); ok && o["kind"] == "Service" { // who applies says nothing of the traffic and its annotation
		var before map[string]any
		if err := json.Unmarshal([]byte(text), &before); err != nil {
			return err
		}
		for _, members := range [][2]string{{"spec", "traffic"}, {"metadata", "annotations"}} {
			of, _ := before[members[0]].(map[string]any)
			if value, ok := of[members[1]]; ok {
				o[members[0]].(map[string]any)[members[1]] = value
			}
		}
	}
	if revision, ok := steer("newest"); ok {
		newest = name + revision
	}
	status := object{
		"conditions":                []object{condition("Ready", "True", "", ""), condition("Complete", "True", "", "")},
		"observedGeneration":        1,
		"url":                       os.Getenv("EDGE_URL"),
		"latestCreatedRevisionName": newest,
		"latestReadyRevisionName":   newest,
	}
	if failing, fails := steer("fail-job"); fails && o["kind"] == "Job" && strings.HasPrefix(name, failing) {
		status["conditions"] = []object{condition("Failed", "True", "PodFailurePolicy", "")}
	}
	if reason, broken := steer("broken_" + name); broken {
		status["latestReadyRevisionName"] = name + "-00001"
		status["traffic"] = []object{{"revisionName": name + "-00001", "percent": 100}}
		status["conditions"] = []object{condition("Ready", "False", "", ""), condition("ConfigurationsReady", "False", "", "")}
		failed := object{"status": object{"conditions": []object{condition("Ready", "False", "ExitCode2", reason)}}}
		if err := save(filepath.Join(folder, "revisions.serving.knative.dev_"+newest), failed); err != nil {
			return err
		}
	}
	o["status"] = status
	follow(o)
	return save(filepath.Join(folder, file(o)), o)
}

// patchService merges what concerns a Service's traffic.
func patchService(name, folder, flag string) error {
	file := filepath.Join(folder, "services.serving.knative.dev_"+name)
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var o object
	var patch struct {
		Metadata struct{ Annotations map[string]any }
		Spec     struct{ Traffic []any }
	}
	if err := errors.Join(json.Unmarshal(text, &o), json.Unmarshal([]byte(strings.TrimPrefix(flag, "--patch=")), &patch)); err != nil {
		return err
	}
	o["spec"].(map[string]any)["traffic"] = patch.Spec.Traffic
	metadata := o["metadata"].(map[string]any)
	annotations, _ := metadata["annotations"].(map[string]any)
	if annotations == nil {
		annotations = make(map[string]any)
	}
	for key, value := range patch.Metadata.Annotations {
		if annotations[key] = value; value == nil {
			delete(annotations, key)
		}
	}
	metadata["annotations"] = annotations
	follow(o)
	return save(file, o)
}

// follow routes the traffic of a Service, where somebody has said something of it, as Knative does.
func follow(o object) {
	spec, _ := o["spec"].(map[string]any)
	targets, _ := spec["traffic"].([]any)
	if targets == nil {
		return
	}
	status, _ := o["status"].(map[string]any)
	if status == nil {
		status = o["status"].(object)
	}
	var routed []object
	for _, target := range targets {
		next := make(object)
		for key, value := range target.(map[string]any) {
			next[key] = value
		}
		if next["latestRevision"] == true {
			next["revisionName"] = status["latestReadyRevisionName"]
		}
		if tag, ok := next["tag"]; ok {
			next["url"] = fmt.Sprintf("http://%s-%s.warble.svc.cluster.local", tag, o["metadata"].(map[string]any)["name"])
		}
		routed = append(routed, next)
	}
	status["traffic"] = routed
}

func list(folder string, out io.Writer, patterns ...string) error {
	var files []string
	for _, pattern := range patterns {
		found, err := filepath.Glob(filepath.Join(folder, pattern))
		if err != nil {
			return err
		}
		files = append(files, found...)
	}
	var items [][]byte
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		items = append(items, text)
	}
	_, err := fmt.Fprintf(out, `{"items": [%s]}`, bytes.Join(items, []byte(",")))
	return err
}

// ko resolves each image to a digest without building it.
func ko() error {
	for _, arg := range os.Args {
		file, ok := strings.CutPrefix(arg, "--filename=")
		if !ok {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text)) {
			if before, path, image := strings.Cut(strings.TrimRight(line, "\n"), "ko://"); image {
				line = before + os.Getenv("KO_DOCKER_REPO") + "/" + filepath.Base(path) + "@sha256:" + strings.Repeat("0", 64) + "\n"
			}
			fmt.Print(line)
		}
		fmt.Println("---")
	}
	return nil
}

func save(file string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o600)
}
