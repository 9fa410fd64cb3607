package main

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
)

// pod is what tells why a pod does not serve.
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

// What podSays looks for in a log.
const (
	complaint = false // the last line that is a warning or an error, if any
	lastLine  = true  // the last line, whatever it is
)

// podSays returns what the newest of the pods, or whoever starts it, has to say, in one line; and whether the pod is stuck,
// which is that its container cannot start or has ended. Knative calls such a revision "Deploying" for ten minutes. It
// explains what is known to be wrong already, so its own errors are nothing but silence.
func (d *deployment) podSays(ctx context.Context, selector string, last bool) (line string, stuck bool) {
	p := d.newestPod(ctx, selector)
	if p == nil {
		return "", false
	}
	if scheduled := find(p.Status.Conditions, "PodScheduled"); scheduled.Status == "False" {
		return scheduled.Message, false // a node may yet come
	}
	function := p.Spec.Containers[0].Name // Knative's own is behind it
	for _, status := range p.Status.ContainerStatuses {
		if status.Name != function {
			continue
		}
		stuck = status.RestartCount > 0
		switch waiting := status.State.Waiting; waiting.Reason {
		case "", "ContainerCreating", "PodInitializing", "CrashLoopBackOff": // its log says more
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

// newestPod returns nil where there is none, or the cluster does not say.
func (d *deployment) newestPod(ctx context.Context, selector string) *pod {
	var list struct{ Items []*pod }
	if err := d.cluster.List(ctx, &list, pods, selector); err != nil || len(list.Items) == 0 {
		return nil
	}
	return slices.MaxFunc(list.Items, func(a, b *pod) int {
		return strings.Compare(a.Metadata.CreationTimestamp, b.Metadata.CreationTimestamp)
	})
}

// pick chooses a line of a log. Of a structured one it shows the message and the error.
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
