package main

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"mime"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	sigsjson "sigs.k8s.io/json"

	"warble/shared/rollout"
)

// The paths of the control plane are those of a cluster's API server.
const (
	namespacePath   = "/api/v1/namespaces/" + namespace
	experimentsPath = "/apis/warble.dev/v1alpha1/namespaces/" + namespace + "/" + rollout.Resource
)

const (
	mostBody      = 1 << 20 // bytes
	answerTimeout = 30 * time.Second
	closeTimeout  = time.Second
)

// control is the control plane of a local run. It serves the resource Experiment on loopback like a cluster's API server, so that clients
// work as with a cluster. It has no discovery and no server-side apply.
type control struct {
	records *records
	wake    func() // called after each change by a client
	token   string

	certificate tls.Certificate
	listener    net.Listener
	server      *http.Server
}

// openControl listens on the address of the previous run, or on another if that is taken, and writes the kubeconfig. Requests are answered
// only after serve is called.
func openControl(s state, r *records, wake func()) (*control, error) {
	token, err := os.ReadFile(s.path(controlFolder, "token"))
	if err != nil {
		return nil, err
	}
	c := &control{records: r, wake: wake, token: strings.TrimSpace(string(token))}
	var authority []byte
	if c.certificate, authority, err = certificate(s.path(controlFolder, "certificate.pem")); err != nil {
		return nil, err
	}
	before, _ := os.ReadFile(s.path(controlFolder, "address")) // there is none before the first run
	if address := string(before); address != "" {
		reserved.Store(address, true)
		c.listener, _ = net.Listen("tcp", address)
	}
	if c.listener == nil {
		address, err := freeAddress()
		if err != nil {
			return nil, err
		}
		if c.listener, err = net.Listen("tcp", address); err != nil {
			return nil, err
		}
	}
	address := c.listener.Addr().String()
	if err := errors.Join(os.WriteFile(s.path(controlFolder, "address"), []byte(address), 0o600), writeKubeconfig(s, address, c.token, authority)); err != nil {
		return nil, errors.Join(err, c.listener.Close())
	}
	return c, nil
}

// serve answers until ctx ends or stop is called. stop ends every watch.
func (c *control) serve(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	c.server = &http.Server{
		Handler: c.handler(), BaseContext: func(net.Listener) context.Context { return ctx },
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{c.certificate}, MinVersion: tls.VersionTLS13},
		ErrorLog:          log.New(io.Discard, "", 0), // it has only handshakes that clients have broken off
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: answerTimeout, WriteTimeout: answerTimeout, IdleTimeout: 2 * time.Minute,
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = c.server.ServeTLS(c.listener, "", "") // until it is shut down
	}()
	return func() {
		cancel()
		late, done := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer done()
		if err := c.server.Shutdown(late); err != nil {
			c.server.Close() //nolint:errcheck // it cuts off the remaining clients
		}
		<-ended
	}
}

// verb answers a request with an object, or with an error of apierrors.
type verb func(w http.ResponseWriter, r *http.Request) (status int, object any, err error)

func (c *control) handler() http.Handler {
	mux := http.NewServeMux()
	for pattern, answer := range map[string]verb{
		"GET " + namespacePath:                      c.getNamespace,
		"GET " + experimentsPath:                    c.listOrWatch,
		"POST " + experimentsPath:                   c.create,
		"GET " + experimentsPath + "/{name}":        c.get,
		"PUT " + experimentsPath + "/{name}":        c.update,
		"PATCH " + experimentsPath + "/{name}":      c.patch,
		"DELETE " + experimentsPath + "/{name}":     c.remove,
		"GET " + experimentsPath + "/{name}/status": c.get,
		"PUT " + experimentsPath + "/{name}/status": c.updateStatus,

		namespacePath:                      methodNotAllowed,
		experimentsPath:                    methodNotAllowed,
		experimentsPath + "/{name}":        methodNotAllowed,
		experimentsPath + "/{name}/status": methodNotAllowed,
		"/":                                notServed,
	} {
		mux.Handle(pattern, c.answer(answer))
	}
	for pattern, answer := range c.metricVerbs() {
		mux.Handle(pattern, c.answer(answer))
	}
	return mux
}

// answer returns the handler of a verb. It checks the token, limits the body, wakes the driver after a change, and encodes the answer or
// the error.
func (c *control) answer(v verb) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, object, err := 0, any(nil), c.authenticate(r)
		if err == nil {
			r.Body = http.MaxBytesReader(w, r.Body, mostBody)
			status, object, err = v(w, r)
		}
		if err == nil && r.Method != http.MethodGet {
			c.wake()
		}
		if err != nil {
			refusal := statusOf(err)
			status, object = int(refusal.Code), refusal
		}
		if object == nil { // a watch, which has written its answer itself
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(object) // if this fails, the client has gone
	})
}

func (c *control) authenticate(r *http.Request) error {
	if subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), []byte("Bearer "+c.token)) == 1 {
		return nil
	}
	return apierrors.NewUnauthorized("expected the bearer token of the kubeconfig in this run's state folder")
}

// statusOf returns an error in the form in which an API server sends it.
func statusOf(err error) *metav1.Status {
	known, ok := errors.AsType[*apierrors.StatusError](err)
	if !ok {
		known = apierrors.NewInternalError(err)
	}
	status := known.Status()
	status.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
	return &status
}

func methodNotAllowed(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	return 0, nil, apierrors.NewMethodNotSupported(resource, r.Method)
}

// notServed answers like an API server to a token that has only rights on experiments and metrics, even if the path does not exist. So
// `kn experiment start` leaves it to the driver to check the Services.
func notServed(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	refusal := apierrors.NewForbidden(resource, "", errors.New("expected "+experimentsPath))
	refusal.ErrStatus.Message = fmt.Sprintf("%s %s: a local run has only %s and %s", r.Method, r.URL.Path, experimentsPath, metricsPath)
	return 0, nil, refusal
}

func (c *control) getNamespace(http.ResponseWriter, *http.Request) (int, any, error) {
	return http.StatusOK, &corev1.Namespace{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"},
		ObjectMeta: metav1.ObjectMeta{Name: namespace, UID: c.records.read().Namespace},
		Status:     corev1.NamespaceStatus{Phase: corev1.NamespaceActive},
	}, nil
}

func (c *control) get(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	e, err := c.records.get(r.PathValue("name"))
	return http.StatusOK, e, err
}

func (c *control) create(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	e, err := decode(r)
	if err == nil {
		e, err = c.records.create(e)
	}
	return http.StatusCreated, e, err
}

func (c *control) update(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	e, err := decode(r)
	if err == nil {
		e, err = c.records.update(r.PathValue("name"), func(*rollout.Experiment) (*rollout.Experiment, error) { return e, nil })
	}
	return http.StatusOK, e, err
}

func (c *control) updateStatus(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	e, err := decode(r)
	if err == nil {
		e, err = c.records.updateStatus(r.PathValue("name"), e)
	}
	return http.StatusOK, e, err
}

func (c *control) patch(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	text, err := read(r, string(types.MergePatchType))
	if err != nil {
		return 0, nil, err
	}
	var patch any
	if err := json.Unmarshal(text, &patch); err != nil {
		return 0, nil, apierrors.NewBadRequest(fmt.Sprintf("the patch: %v: expected JSON", err))
	}
	e, err := c.records.update(r.PathValue("name"), func(present *rollout.Experiment) (*rollout.Experiment, error) {
		var document any
		text, err := json.Marshal(present)
		if err == nil {
			err = json.Unmarshal(text, &document)
		}
		if err == nil {
			text, err = json.Marshal(merge(document, patch))
		}
		if err != nil {
			return nil, err
		}
		return parse(text)
	})
	return http.StatusOK, e, err
}

// merge applies a JSON merge patch (RFC 7396) and returns the result.
func merge(document, patch any) any {
	changes, isObject := patch.(map[string]any)
	if !isObject {
		return patch
	}
	result, isObject := document.(map[string]any)
	if !isObject {
		result = make(map[string]any)
	}
	for name, value := range changes {
		if value == nil {
			delete(result, name)
		} else {
			result[name] = merge(result[name], value)
		}
	}
	return result
}

func (c *control) remove(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	text, err := read(r, "")
	if err != nil {
		return 0, nil, err
	}
	var options metav1.DeleteOptions
	if len(text) > 0 {
		if err := json.Unmarshal(text, &options); err != nil {
			return 0, nil, apierrors.NewBadRequest(fmt.Sprintf("the body: %v: expected DeleteOptions", err))
		}
	}
	if len(options.DryRun) > 0 {
		return 0, nil, errDryRun
	}
	gone, err := c.records.remove(r.PathValue("name"), options.Preconditions)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, &metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusSuccess,
		Details: &metav1.StatusDetails{Name: gone.Name, Group: resource.Group, Kind: resource.Resource, UID: gone.UID},
	}, nil
}

// errDryRun refuses a dry run, which would otherwise be carried out.
var errDryRun = apierrors.NewBadRequest("dryRun: expected none, because a local run has no dry runs")

// decode reads an Experiment from a body.
func decode(r *http.Request) (*rollout.Experiment, error) {
	text, err := read(r, "application/json")
	if err != nil {
		return nil, err
	}
	return parse(text)
}

// read reads a body, and refuses media types other than media if that is not empty.
func read(r *http.Request, media string) ([]byte, error) {
	if r.URL.Query().Get("dryRun") != "" {
		return nil, errDryRun
	}
	actual, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if media != "" && (err != nil || actual != media) {
		refusal := apierrors.NewGenericServerResponse(http.StatusUnsupportedMediaType, r.Method, resource, r.PathValue("name"), "", 0, false)
		refusal.ErrStatus.Message = fmt.Sprintf("Content-Type is %q: expected %s", r.Header.Get("Content-Type"), media)
		return nil, refusal
	}
	text, err := io.ReadAll(r.Body)
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("expected a body of at most %d bytes", mostBody))
	}
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return text, nil
}

// parse reads an Experiment, and refuses unknown fields.
func parse(text []byte) (*rollout.Experiment, error) {
	e := new(rollout.Experiment)
	unknown, err := sigsjson.UnmarshalStrict(text, e)
	if err = errors.Join(append(unknown, err)...); err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("it is not an Experiment: %v", err))
	}
	if e.APIVersion != rollout.GroupVersion.String() || e.Kind != rollout.Kind {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("apiVersion %q and kind %q: expected %s and %s", e.APIVersion, e.Kind, rollout.GroupVersion, rollout.Kind))
	}
	if e.Namespace != "" && e.Namespace != namespace {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("metadata.namespace: %q: expected %s, as in the path", e.Namespace, namespace))
	}
	return e, nil
}
