package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"

	"warble/shared/rollout"
)

// event is one line of a watch.
type event struct {
	Type   watch.EventType `json:"type"`
	Object any             `json:"object"`
}

func (c *control) listOrWatch(w http.ResponseWriter, r *http.Request) (int, any, error) {
	query := r.URL.Query()
	wanted, err := selector(r)
	if err != nil {
		return 0, nil, err
	}
	if follow, _ := strconv.ParseBool(query.Get("watch")); follow {
		return 0, nil, c.stream(w, r, wanted)
	}
	list := c.records.list()
	selected := list.Items[:0]
	for _, e := range list.Items {
		if wanted(&e) {
			selected = append(selected, e)
		}
	}
	list.Items = selected
	return http.StatusOK, list, nil
}

// selector returns a function that reports whether a request selects an experiment. Only the name and the namespace can be selected,
// because they never change. With other fields, a watch would have to report that an experiment is no longer selected.
func selector(r *http.Request) (func(*rollout.Experiment) bool, error) {
	query := r.URL.Query()
	if query.Get("labelSelector") != "" {
		return nil, apierrors.NewBadRequest("labelSelector: expected none in a local run")
	}
	selected, err := fields.ParseSelector(query.Get("fieldSelector"))
	if err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("fieldSelector: %v", err))
	}
	for _, one := range selected.Requirements() {
		if one.Field != "metadata.name" && one.Field != "metadata.namespace" {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("fieldSelector: %s: expected metadata.name or metadata.namespace", one.Field))
		}
	}
	return func(e *rollout.Experiment) bool {
		return selected.Matches(fields.Set{"metadata.name": e.Name, "metadata.namespace": e.Namespace})
	}, nil
}

// stream sends the changes after a version as they happen, until the client closes, its timeout is over or the run stops. Without a
// version it begins with all present experiments. It returns an error only before it has sent the first byte.
func (c *control) stream(w http.ResponseWriter, r *http.Request, wanted func(*rollout.Experiment) bool) error {
	query := r.URL.Query()
	if query.Get("sendInitialEvents") != "" { // after this error, an informer lists and then watches
		return apierrors.NewBadRequest("sendInitialEvents: expected none, because a local run sends no bookmarks")
	}
	var over <-chan time.Time // without timeoutSeconds, a watch has no end
	if seconds, err := strconv.Atoi(query.Get("timeoutSeconds")); err == nil && seconds > 0 {
		over = time.After(time.Duration(seconds) * time.Second)
	}
	var first []event
	var at int64
	if from := query.Get("resourceVersion"); from == "" || from == "0" {
		list := c.records.list()
		at, _ = strconv.ParseInt(list.ResourceVersion, 10, 64) // list has written it
		for i := range list.Items {
			first = append(first, event{watch.Added, &list.Items[i]})
		}
	} else {
		var err error
		if at, err = strconv.ParseInt(from, 10, 64); err != nil {
			return apierrors.NewBadRequest(fmt.Sprintf("resourceVersion: %q: expected the version of a list", from))
		}
		if _, _, err := c.records.since(at); err != nil {
			return err
		}
	}
	connection := http.NewResponseController(w)
	// The server's timeouts are too short for a watch. If they cannot be removed, the client has gone.
	_, _ = connection.SetReadDeadline(time.Time{}), connection.SetWriteDeadline(time.Time{})
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	encoder := json.NewEncoder(w)
	send := func(e event) bool { return encoder.Encode(e) == nil }
	for _, e := range first {
		if wanted(e.Object.(*rollout.Experiment)) && !send(e) {
			return nil
		}
	}
	for {
		changes, next, err := c.records.since(at)
		if err != nil { // the client was too slow, and has missed changes
			send(event{watch.Error, statusOf(err)})
			return nil
		}
		for _, change := range changes {
			if at = change.version; wanted(change.object) && !send(event{change.kind, change.object}) {
				return nil
			}
		}
		if connection.Flush() != nil {
			return nil
		}
		select {
		case <-next:
		case <-over:
			return nil
		case <-r.Context().Done():
			return nil
		}
	}
}
