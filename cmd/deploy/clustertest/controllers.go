package clustertest

import (
	"fmt"
	"net/http"
	"reflect"
	"strings"
)

func isService(k kind) bool { return k.resource() == "services.serving.knative.dev" }

// admit plays the webhooks and the API server's own rules: it sets defaults in an object that is applied, or refuses it.
func admit(k kind, before, after object) error {
	spec, _ := after["spec"].(object)
	if isService(k) && spec["traffic"] == nil {
		spec["traffic"] = []any{object{"latestRevision": true, "percent": 100}}
	}
	if k.kind == "Job" && before != nil && !reflect.DeepEqual(child(before, "spec")["template"], spec["template"]) {
		return refusal{http.StatusUnprocessableEntity, "Invalid", "spec.template: field is immutable"}
	}
	return nil
}

func condition(kind, status, reason, message string) object {
	return object{"type": kind, "status": status, "reason": reason, "message": message}
}

// react plays the controllers: it sets the status of an object that was applied.
func (c *Cluster) react(k kind, name string, o object) error {
	status := make(object)
	switch {
	case k.kind == "Job":
		state := "Complete"
		if failing, fails := c.readFile("fail-job"); fails && strings.HasPrefix(name, failing) {
			state = "Failed"
		}
		status["conditions"] = []any{condition(state, "True", "", "")}
	case isService(k):
		end := "-00002"
		if other, ok := c.readFile("newest"); ok {
			end = other
		}
		metadata := child(o, "metadata")
		generation, _ := metadata["generation"].(float64)
		metadata["generation"] = generation + 1
		status["observedGeneration"], status["url"] = generation+1, c.edge
		status["latestCreatedRevisionName"], status["latestReadyRevisionName"] = name+end, name+end
		status["conditions"] = []any{condition("Ready", "True", "", "")}
		if reason, broken := c.readFile("broken_" + name); broken {
			status["latestReadyRevisionName"] = name + "-00001"
			status["conditions"] = []any{condition("Ready", "False", "", ""), condition("ConfigurationsReady", "False", "", "")}
			revision := object{"status": object{"conditions": []any{condition("Ready", "False", "ExitCode2", reason)}}}
			if err := c.save("revisions.serving.knative.dev_"+name+end, revision); err != nil {
				return err
			}
		}
	default:
		return nil
	}
	o["status"] = status
	return c.follow(k, name, o)
}

// follow routes the traffic of a Knative Service, and makes the Kubernetes Services of its tags.
func (c *Cluster) follow(k kind, name string, o object) error {
	if !isService(k) {
		return nil
	}
	status := child(o, "status")
	routed := []any{}
	for _, target := range child(o, "spec")["traffic"].([]any) {
		next, err := plain(target)
		if err != nil {
			return err
		}
		if next["latestRevision"] == true {
			next["revisionName"] = status["latestReadyRevisionName"]
		}
		if tag, ok := next["tag"].(string); ok {
			host := tag + "-" + name
			next["url"] = fmt.Sprintf("http://%s.warble.svc.cluster.local", host)
			if _, there := c.readFile("services_" + host); !there {
				if err := c.save("services_"+host, object{"metadata": object{"name": host}}); err != nil {
					return err
				}
			}
		}
		routed = append(routed, next)
	}
	status["traffic"] = routed
	return nil
}
