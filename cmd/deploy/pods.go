package main

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
)

// pod is the part of a pod that shows why it does not serve.
type pod struct {
	Metadata struct{ Name, CreationTimestamp string }
	Spec     struct {
		Containers []struct{ Name string }
	}
	Status struct {
		Conditions        []condition
		ContainerStatuses []struct {
			Name         string
			RestartCount int
			State        struct {
				Waiting struct{ Reason, Message string }
			}
		}
	}
}

// Values of podSays's argument last.
const (
	complaint = false // take the last line with the level warning or higher
	lastLine  = true  // take the last line of any level
)

// podSays returns one line that explains the state of the newest pod: the scheduler's or the kubelet's message, or a line of its log. It also
// reports whether the pod is stuck: its container cannot start, or has ended. Knative calls such a revision "Deploying" for ten minutes.
// podSays only explains an error that is known already, so it ignores its own errors.
func (d *deployment) podSays(ctx context.Context, selector string, last bool) (line string, stuck bool) {
	p := d.newestPod(ctx, selector)
	if p == nil {
		return "", false
	}
	if scheduled := find(p.Status.Conditions, "PodScheduled"); scheduled.Status == "False" {
		return scheduled.Message, false // it may still get a node
	}
	function := p.Spec.Containers[0].Name // Knative's own container comes after it
	for _, status := range p.Status.ContainerStatuses {
		if status.Name != function {
			continue
		}
		stuck = status.RestartCount > 0
		switch waiting := status.State.Waiting; waiting.Reason {
		case "", "ContainerCreating", "PodInitializing", "CrashLoopBackOff": // the log says more
		default:
			return waiting.Reason + ": " + waiting.Message, true
		}
	}
	const most = 50 // lines
	text, err := d.cluster.Log(ctx, p.Metadata.Name, function, most, false)
	line = pick(text, last)
	if (err != nil || line == "") && stuck {
		text, _ = d.cluster.Log(ctx, p.Metadata.Name, function, most, true)
		line = pick(text, last)
	}
	return line, stuck
}

// newestPod returns the newest pod, or nil if there is none or the pods cannot be read.
func (d *deployment) newestPod(ctx context.Context, selector string) *pod {
	var list struct{ Items []*pod }
	if err := d.cluster.List(ctx, &list, pods, selector); err != nil || len(list.Items) == 0 {
		return nil
	}
	return slices.MaxFunc(list.Items, func(a, b *pod) int {
		return strings.Compare(a.Metadata.CreationTimestamp, b.Metadata.CreationTimestamp)
	})
}

// pick returns a line of a log. From a structured line it returns the message and the error.
func pick(text string, last bool) string {
	for _, line := range slices.Backward(strings.Split(strings.TrimSpace(text), "\n")) {
		var entry struct{ Level, Message, Error string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			if last {
				return line
			}
			continue
		}
		if last || entry.Level == "warn" || entry.Level == "error" || entry.Level == "fatal" || entry.Level == "panic" {
			return strings.TrimSuffix(entry.Message+": "+entry.Error, ": ")
		}
	}
	return ""
}
