package main

import (
	"encoding/json"
	"maps"
	"net"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
)

// apiServer is a small Kubernetes API server with what a watch needs: lists, watches with and without initial events, and writes.
// It can be stopped, and it can refuse requests. With the build tag e2e the same journey runs on a real API server.
type apiServer struct {
	address string
	refuse  func(*http.Request) *metav1.Status // nil accepts all requests; set before start

	server *http.Server // nil while stopped
	served sync.WaitGroup

	mu      sync.Mutex
	objects map[string]*unstructured.Unstructured
	history []change
	more    chan struct{} // closed at the next change
}

// kinds has the kind of each collection.
var kinds = map[string]string{"services": "Service", "revisions": "Revision", "events": "Event", "experiments": "Experiment"}

type change struct {
	collection string
	kind       string // ADDED, MODIFIED, DELETED
	object     *unstructured.Unstructured
}

// newAPIServer returns a server that is not started.
func newAPIServer(t *testing.T) *apiServer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &apiServer{address: listener.Addr().String(), objects: make(map[string]*unstructured.Unstructured), more: make(chan struct{})}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.stop)
	return s
}

func (s *apiServer) start(t *testing.T) {
	t.Helper()
	listener, err := net.Listen("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	s.server = &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}
	s.served.Go(func() { _ = s.server.Serve(listener) }) // until stop
}

// stop closes all connections and the listener.
func (s *apiServer) stop() {
	if s.server != nil {
		_ = s.server.Close() // an error does not matter: the listener is not used again
		s.served.Wait()
		s.server = nil
	}
}

func (s *apiServer) config() *rest.Config {
	return &rest.Config{Host: "http://" + s.address, ContentConfig: rest.ContentConfig{ContentType: "application/json"}}
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.refuse != nil {
		if status := s.refuse(r); status != nil {
			s.answer(w, int(status.Code), status)
			return
		}
	}
	if r.Method == http.MethodGet && r.URL.Query().Get("watch") == "true" {
		s.watch(w, r)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var sent unstructured.Unstructured
	if r.Method == http.MethodPost || r.Method == http.MethodPut {
		if err := json.NewDecoder(r.Body).Decode(&sent.Object); err != nil {
			s.answer(w, http.StatusBadRequest, failure(http.StatusBadRequest, metav1.StatusReasonBadRequest))
			return
		}
	}
	objectPath, ofStatus := strings.CutSuffix(r.URL.Path, "/status")
	if r.Method == http.MethodPost {
		objectPath = path.Join(objectPath, sent.GetName())
	}
	present, known := s.objects[objectPath]
	switch {
	case r.Method == http.MethodPost && known:
		s.answer(w, http.StatusConflict, failure(http.StatusConflict, metav1.StatusReasonAlreadyExists))
	case r.Method == http.MethodPost:
		sent.SetUID(types.UID(objectPath))
		sent.SetCreationTimestamp(metav1.Now())
		unstructured.RemoveNestedField(sent.Object, "status")
		s.answer(w, http.StatusCreated, s.put("ADDED", objectPath, &sent))
	case r.Method == http.MethodGet && kinds[path.Base(objectPath)] != "":
		s.answer(w, http.StatusOK, map[string]any{
			"apiVersion": apiVersion(objectPath), "kind": kinds[path.Base(objectPath)] + "List",
			"metadata": map[string]any{"resourceVersion": s.version()}, "items": s.list(objectPath, selector(r)),
		})
	case !known:
		s.answer(w, http.StatusNotFound, failure(http.StatusNotFound, metav1.StatusReasonNotFound))
	case r.Method == http.MethodDelete:
		s.answer(w, http.StatusOK, s.put("DELETED", objectPath, present.DeepCopy()))
	case r.Method == http.MethodPut && ofStatus:
		next := present.DeepCopy()
		next.Object["status"] = sent.Object["status"]
		s.answer(w, http.StatusOK, s.put("MODIFIED", objectPath, next))
	case r.Method == http.MethodPut:
		sent.Object["status"] = present.Object["status"]
		s.answer(w, http.StatusOK, s.put("MODIFIED", objectPath, &sent))
	default:
		s.answer(w, http.StatusOK, present)
	}
}

// put stores a change. s.mu must be held.
func (s *apiServer) put(kind, objectPath string, object *unstructured.Unstructured) *unstructured.Unstructured {
	object.SetResourceVersion(strconv.Itoa(len(s.history) + 1))
	s.history = append(s.history, change{path.Dir(objectPath), kind, object})
	if kind == "DELETED" {
		delete(s.objects, objectPath)
	} else {
		s.objects[objectPath] = object
	}
	close(s.more)
	s.more = make(chan struct{})
	return object
}

func (s *apiServer) version() string { return strconv.Itoa(len(s.history)) }

func (s *apiServer) list(collection string, selected labels.Selector) []*unstructured.Unstructured {
	items := []*unstructured.Unstructured{}
	for _, objectPath := range slices.Sorted(maps.Keys(s.objects)) {
		if path.Dir(objectPath) == collection && selected.Matches(labels.Set(s.objects[objectPath].GetLabels())) {
			items = append(items, s.objects[objectPath])
		}
	}
	return items
}

func (s *apiServer) watch(w http.ResponseWriter, r *http.Request) {
	query, selected := r.URL.Query(), selector(r)
	w.Header().Set("Content-Type", "application/json")
	encoder := json.NewEncoder(w)
	send := func(kind string, object *unstructured.Unstructured) {
		_ = encoder.Encode(map[string]any{"type": kind, "object": object}) // a write fails only if the client has left, which ends the request
	}
	s.mu.Lock()
	next, _ := strconv.Atoi(query.Get("resourceVersion")) // 0, the start, if there is none
	if query.Get("sendInitialEvents") == "true" {
		for _, object := range s.list(r.URL.Path, selected) {
			send("ADDED", object)
		}
		end := &unstructured.Unstructured{Object: map[string]any{"apiVersion": apiVersion(r.URL.Path), "kind": kinds[path.Base(r.URL.Path)]}}
		end.SetResourceVersion(s.version())
		end.SetAnnotations(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
		send("BOOKMARK", end)
		next = len(s.history)
	}
	for {
		changes, more := s.history[next:], s.more
		next = len(s.history)
		s.mu.Unlock()
		for _, c := range changes {
			if c.collection == r.URL.Path && selected.Matches(labels.Set(c.object.GetLabels())) {
				send(c.kind, c.object)
			}
		}
		w.(http.Flusher).Flush()
		select {
		case <-r.Context().Done():
			return
		case <-more:
		}
		s.mu.Lock()
	}
}

// apiVersion returns the version in a path such as /api/v1/... or /apis/GROUP/v1/... .
func apiVersion(objectPath string) string {
	version, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(objectPath, "/apis/"), "/api/"), "/namespaces/")
	return version
}

func selector(r *http.Request) labels.Selector {
	selected, err := labels.Parse(r.URL.Query().Get("labelSelector"))
	if err != nil {
		return labels.Nothing()
	}
	return selected
}

func failure(code int32, reason metav1.StatusReason) *metav1.Status {
	return &metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
		Status:   metav1.StatusFailure, Code: code, Reason: reason, Message: string(reason) + " by the test",
	}
}

func (s *apiServer) answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // if this fails, the client has left
}

func decoded(t *testing.T, text []byte) *unstructured.Unstructured {
	t.Helper()
	object := new(unstructured.Unstructured)
	if err := json.Unmarshal(text, &object.Object); err != nil {
		t.Fatal(err)
	}
	return object
}
