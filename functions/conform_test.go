package functions_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"

	"warble/functions"
)

// contract is the document, with a record of which parts real answers have shown.
type contract struct {
	doc        *openapi3.T
	operations []operation // sorted by name
	mux        *http.ServeMux
	produced   map[string]bool // "GET /2/tweets 200"
	headers    map[string]bool // in the form of http.Header
}

// operation is one method of one path.
type operation struct {
	*openapi3.Operation

	name         string // "GET /2/tweets/{id}"
	method, path string
	parameters   openapi3.Parameters // including those of the path
	item         *openapi3.PathItem
}

func loadContract(t *testing.T) *contract {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(functions.OpenAPI)
	if err != nil {
		t.Fatal(err)
	}
	c := &contract{doc: doc, mux: http.NewServeMux(), produced: make(map[string]bool), headers: make(map[string]bool)}
	for path, item := range doc.Paths.Map() {
		for method, o := range item.Operations() {
			name := method + " " + path // OpenAPI's templates are ServeMux patterns, except the root, which would match every path
			if path == "/" {
				name += "{$}"
			}
			c.operations = append(c.operations, operation{o, name, method, path, slices.Concat(item.Parameters, o.Parameters), item})
			c.mux.Handle(name, http.NotFoundHandler())
		}
	}
	slices.SortFunc(c.operations, func(a, b operation) int { return cmp.Compare(a.name, b.name) })
	return c
}

// operation returns the operation of a name, which must exist.
func (c *contract) operation(name string) operation {
	i := slices.IndexFunc(c.operations, func(o operation) bool { return o.name == name })
	if i < 0 {
		panic(name + " is not in functions/openapi.yaml")
	}
	return c.operations[i]
}

// protected reports whether the operation needs a token, which is the default.
func (o operation) protected() bool { return o.Security == nil || len(*o.Security) > 0 }

// documents reports whether the contract describes this status for the operation.
func (o operation) documents(status int) bool { return o.Responses.Status(status) != nil }

// onlyClosed reports whether a 404 can only mean that the operation's feature is not open.
func (o operation) onlyClosed() bool { return o.notFoundRef() == "#/components/responses/NotOpen" }

// onlyUnverified reports whether a 403 can only mean that an email address must be verified first, which is a setting.
func (o operation) onlyUnverified() bool {
	return o.documents(http.StatusForbidden) && o.Responses.Status(http.StatusForbidden).Ref == "#/components/responses/Unverified"
}

// closable reports whether a 404 can mean that the operation's feature is not open.
func (o operation) closable() bool {
	return o.onlyClosed() || o.notFoundRef() == "#/components/responses/NotFoundOrNotOpen"
}

// notFoundRef returns the reference that describes the operation's 404; "" if there is none.
func (o operation) notFoundRef() string {
	if !o.documents(http.StatusNotFound) {
		return ""
	}
	return o.Responses.Status(http.StatusNotFound).Ref
}

// example returns the request body that the contract shows.
func (o operation) example() string {
	if o.RequestBody == nil {
		return ""
	}
	text, err := json.Marshal(o.RequestBody.Value.Content["application/json"].Example)
	if err != nil {
		panic(err) // it comes from YAML without values that JSON lacks
	}
	return string(text)
}

// hasParameter reports whether the operation has a parameter of that name.
func (o operation) hasParameter(name string) bool {
	return slices.ContainsFunc(o.parameters, func(p *openapi3.ParameterRef) bool { return p.Value.Name == name })
}

// request returns a request such as "GET /2/tweets/17". values fills in the parameters of the path and the required parameters of
// the query, by their names in the contract's components.
func (o operation) request(values map[string]string) string {
	path, query := o.path, "?"
	for _, p := range o.parameters {
		value := values[p.Ref[strings.LastIndex(p.Ref, "/")+1:]]
		switch {
		case p.Value.In == openapi3.ParameterInPath:
			path = strings.Replace(path, "{"+p.Value.Name+"}", value, 1)
		case p.Value.Required:
			query += p.Value.Name + "=" + value
		}
	}
	return o.method + " " + path + strings.TrimSuffix(query, "?")
}

// withParameter adds a parameter to the query of a request.
func withParameter(request, parameter string) string {
	if strings.Contains(request, "?") {
		return request + "&" + parameter
	}
	return request + "?" + parameter
}

// check compares a real exchange with the contract, and records that the answer was shown. sent is the request's body.
func (c *contract) check(r *http.Request, sent string, answer *http.Response, body []byte) error {
	_, name := c.mux.Handler(r)
	if name == "" {
		return fmt.Errorf("%s %s is not in the contract", r.Method, r.URL)
	}
	o := c.operation(name)
	what := o.name + " " + strconv.Itoa(answer.StatusCode)
	response := o.Responses.Status(answer.StatusCode)
	if response == nil {
		return fmt.Errorf("%s is not in the contract: %s", what, body)
	}
	c.produced[what] = true
	err := c.conforms(response.Value, answer, body)
	if private := strings.HasPrefix(o.path, "/auth/"); private != (answer.Header.Get("Cache-Control") == "no-store") {
		err = errors.Join(err, fmt.Errorf("Cache-Control is %q", answer.Header.Get("Cache-Control")))
	}
	if answer.StatusCode < http.StatusMultipleChoices {
		r.Body = io.NopCloser(strings.NewReader(sent))
		if wrong := openapi3filter.ValidateRequest(r.Context(), c.input(o, r)); wrong != nil {
			err = errors.Join(err, fmt.Errorf("the request was accepted and is not in the contract: %w", wrong))
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", what, err, body)
	}
	return nil
}

// input converts a request to kin-openapi's form.
func (c *contract) input(o operation, r *http.Request) *openapi3filter.RequestValidationInput {
	values := make(map[string]string)
	parts := strings.Split(r.URL.Path, "/")
	for i, segment := range strings.Split(o.path, "/") {
		if strings.HasPrefix(segment, "{") {
			values[strings.Trim(segment, "{}")] = parts[i]
		}
	}
	return &openapi3filter.RequestValidationInput{
		Request:    r,
		PathParams: values,
		Route:      &routers.Route{Spec: c.doc, Path: o.path, PathItem: o.item, Method: o.method, Operation: o.Operation},
		Options:    &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc},
	}
}

// transport lists the headers that belong to HTTP, not to the API.
var transport = []string{"Content-Length", "Content-Type", "Date"}

// conforms compares an answer with its description: headers, media type and body.
func (c *contract) conforms(response *openapi3.Response, answer *http.Response, body []byte) error {
	var wrong []error
	described := make(map[string]bool)
	for name := range response.Headers {
		described[http.CanonicalHeaderKey(name)] = true
	}
	for name := range answer.Header {
		c.headers[name] = true
		if !described[name] && !slices.Contains(transport, name) {
			wrong = append(wrong, fmt.Errorf("the header %s is not in the contract", name))
		}
	}
	if len(response.Content) == 0 && len(body) > 0 {
		wrong = append(wrong, errors.New("there should be no body"))
	}
	if answer.Header.Get("Content-Type") == "application/problem+json" {
		var problem struct {
			Status   int
			Instance string
		}
		if err := json.Unmarshal(body, &problem); err != nil || problem.Status != answer.StatusCode || problem.Instance != answer.Header.Get("X-Request-Id") {
			wrong = append(wrong, errors.New("the body has another status or request id than the answer"))
		}
	}
	// kin-openapi does not check a 304. So every answer is passed to it as the 200 of an operation that has no other answer.
	one := &openapi3.Operation{Responses: openapi3.NewResponses(openapi3.WithStatus(http.StatusOK, &openapi3.ResponseRef{Value: response}))}
	err := openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{
			Request: &http.Request{Method: http.MethodGet},
			Route:   &routers.Route{Spec: c.doc, Operation: one},
		},
		Status: http.StatusOK,
		Header: answer.Header,
		Body:   io.NopCloser(bytes.NewReader(body)),
	})
	return errors.Join(append(wrong, err)...)
}

// unseen lists the parts of the contract that no answer has shown.
func (c *contract) unseen() (list []string) {
	for _, o := range c.operations {
		for status, response := range o.Responses.Map() {
			if what := o.name + " " + status; !c.produced[what] {
				list = append(list, what)
			}
			for header := range response.Value.Headers {
				if !c.headers[http.CanonicalHeaderKey(header)] {
					list = append(list, "the header "+header)
				}
			}
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// allowed returns the value of Allow in a 405: the methods of the path, and HEAD if there is a GET.
func (c *contract) allowed(item *openapi3.PathItem) string {
	methods := slices.Collect(maps.Keys(item.Operations()))
	if item.Get != nil {
		methods = append(methods, http.MethodHead)
	}
	order := []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}
	slices.SortFunc(methods, func(a, b string) int { return slices.Index(order, a) - slices.Index(order, b) })
	return strings.Join(methods, ", ")
}
