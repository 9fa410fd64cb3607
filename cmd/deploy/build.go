package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"warble/shared/env"
	"warble/shared/store"
)

const (
	koScheme = "ko://"
	pinnedKo = "go tool -modfile=tools/ko/go.mod ko"
)

// builder writes the digests of images into the manifests. It builds the images, or uses those of a release.
type builder struct {
	output
	*manifests
	ko   []string // the command line
	from string   // the file of the release whose images are used; empty to build them
}

// readBuilder reads the command KO, and checks that KO_DOCKER_REPO is set, which ko itself reads.
func readBuilder(e *env.Reader, o *options, m *manifests, out output) builder {
	e.Required("KO_DOCKER_REPO", "the registry to which images are pushed and from which the cluster pulls, such as registry.example.org/warble")
	return builder{output: out, manifests: m, ko: strings.Fields(e.String("KO", pinnedKo)), from: o.from}
}

// withoutScheme replaces ko's import paths by image names, because the cluster's checks demand them.
func withoutScheme(text []byte) []byte {
	return bytes.ReplaceAll(text, []byte(koScheme), []byte("ko.local/"))
}

// build builds and pushes the images of objects. It returns everything to apply, in order: the objects with the digests of their images, and
// the routes for an edge that starts while the API server is unavailable.
func (b builder) build(ctx context.Context, objects []*object) ([]*object, error) {
	start := time.Now()
	var files []string
	for _, o := range objects {
		if !slices.Contains(files, o.file) {
			files = append(files, o.file)
		}
	}
	text, err := b.resolve(ctx, files)
	if err != nil {
		return nil, err
	}
	resolved, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("read ko's output: %w", err)
	}
	if len(resolved) != len(objects) {
		return nil, fmt.Errorf("ko returned %d objects: expected %d", len(resolved), len(objects))
	}
	for i, o := range resolved {
		o.file = objects[i].file
		if o.head != objects[i].head {
			return nil, fmt.Errorf("ko returned %s in the place of %s", o, objects[i])
		}
		if o.Kind == "Job" && o.file != candidateFile {
			if err := o.nameAfterContent(); err != nil {
				return nil, err
			}
		}
	}
	nameSchema(resolved)
	if b.from == "" {
		b.say("built images in %s", time.Since(start).Round(100*time.Millisecond))
	}
	routes, err := b.routes()
	if err != nil {
		return nil, err
	}
	functions := slices.IndexFunc(resolved, func(o *object) bool { return o.file >= routes.file })
	return slices.Insert(resolved, functions, routes), nil
}

// resolve returns the text of manifests with the digests of their images. Images of a release are not built again, so that exactly the signed
// images run. The Job that tries out a candidate is not part of a release, so it is always built.
func (b builder) resolve(ctx context.Context, files []string) ([]byte, error) {
	if b.from == "" {
		b.say("building images")
		return b.runKo(ctx, files)
	}
	released, err := os.ReadFile(b.from)
	if err != nil {
		return nil, err
	}
	digests := make(map[string]string) // by the image's last name
	for _, found := range digested.FindAllSubmatch(released, -1) {
		digests[string(found[2])] = string(found[1])
	}
	var all bytes.Buffer
	for _, file := range files {
		if file == candidateFile {
			text, err := b.runKo(ctx, []string{file})
			if err != nil {
				return nil, err
			}
			fmt.Fprintf(&all, "\n---\n%s", text)
			continue
		}
		text, err := os.ReadFile(filepath.Join(b.folder, file))
		if err != nil {
			return nil, err
		}
		for _, found := range unresolved.FindAllSubmatch(text, -1) {
			digest, ok := digests[path.Base(string(found[0]))]
			if !ok {
				return nil, fmt.Errorf("%s: expected an image of %s, because %s names it", b.from, found[0], file)
			}
			text = bytes.ReplaceAll(text, found[0], []byte(digest))
		}
		fmt.Fprintf(&all, "\n---\n%s", text)
	}
	b.say("took %d images from %s", len(digests), b.from)
	return all.Bytes(), nil
}

var (
	digested   = regexp.MustCompile(`image: (\S+/([a-z0-9-]+)@sha256:[0-9a-f]+)`)
	unresolved = regexp.MustCompile(koScheme + `[\w./-]+`)
)

// runKo builds and pushes the images of files, and returns the files with their digests.
func (b builder) runKo(ctx context.Context, files []string) ([]byte, error) {
	arguments := append(slices.Clone(b.ko[1:]), "resolve", "--base-import-paths")
	for _, file := range files {
		arguments = append(arguments, "--filename="+filepath.Join(b.folder, file))
	}
	command := exec.CommandContext(ctx, b.ko[0], arguments...)
	var said bytes.Buffer
	command.Stderr = &said
	text, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("build images: %s: %w: %s", filepath.Base(b.ko[0]), err, bytes.TrimSpace(said.Bytes()))
	}
	return text, nil
}

// nameAfterContent gives a Job a name that depends on its content, because a Job cannot be changed. If the same Job is applied again, it has
// the same name, and does not run again.
func (o *object) nameAfterContent() error {
	text, err := yaml.Marshal(o.node)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(text)
	o.Metadata.Name += "-" + hex.EncodeToString(sum[:5])
	member(member(o.node.Content[0], "metadata"), "name").SetString(o.Metadata.Name)
	return nil
}

// valueOf returns the value of a mapping's member, or an empty node if there is no such member.
func valueOf(mapping *yaml.Node, name string) *yaml.Node {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == name {
			return mapping.Content[i+1]
		}
	}
	return &yaml.Node{}
}

// member returns the value of a mapping's member. If there is no such member, it adds an empty mapping.
func member(mapping *yaml.Node, name string) *yaml.Node {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == name {
			return mapping.Content[i+1]
		}
	}
	value := &yaml.Node{Kind: yaml.MappingNode}
	mapping.Content = append(mapping.Content, scalar(name), value)
	return value
}

// Annotations of a revision that uses the database.
const (
	// databaseAnnotation has the database's host and name.
	databaseAnnotation = "warble.dev/database"
	// schemaAnnotation has the newest migration that the revision's code knows. The arms of an experiment are copies of a revision, so they
	// have the same annotation.
	schemaAnnotation = "warble.dev/schema"
)

// nameDatabases writes the database's host and name, from the secrets, into the functions that use it. Without this, a changed secret would
// reach a pod at its next start, at any time. With it, the change makes a new revision, which must become ready first.
func nameDatabases(objects []*object, all holdings) {
	for _, o := range objects {
		for _, r := range o.databases() {
			text, ok := all[[2]string{r.kind, r.name}].value(r.key)
			if u, err := url.Parse(text); ok && err == nil {
				o.annotateTemplate(databaseAnnotation, u.Host+u.Path)
			}
		}
	}
}

// publishTo sets K_SINK of the functions that post events, unless sink is empty.
func publishTo(objects []*object, sink string) {
	for _, o := range objects {
		if sink == "" || !strings.HasPrefix(o.APIVersion, "serving.knative.dev/") || o.Kind != "Service" {
			continue
		}
		spec := valueOf(valueOf(valueOf(o.node.Content[0], "spec"), "template"), "spec")
		for _, container := range valueOf(spec, "containers").Content {
			for _, variable := range valueOf(container, "env").Content {
				if valueOf(variable, "name").Value == "K_SINK" {
					*member(variable, "value") = *scalar(sink)
				}
			}
		}
	}
}

// nameSchema writes this release's newest migration into the functions that use the database.
func nameSchema(objects []*object) {
	for _, o := range objects {
		if len(o.databases()) > 0 {
			o.annotateTemplate(schemaAnnotation, strconv.Itoa(store.SchemaVersion))
		}
	}
}

// databases returns a function's references to secrets of the database. It returns none if the object is not a function.
func (o *object) databases() []reference {
	if !strings.HasPrefix(o.APIVersion, "serving.knative.dev/") || o.Kind != "Service" {
		return nil
	}
	return slices.DeleteFunc(o.references(), func(r reference) bool { return !strings.HasPrefix(r.name, databaseSecret) })
}

// annotateTemplate sets an annotation of a function's revisions.
func (o *object) annotateTemplate(name, value string) {
	template := member(member(o.node.Content[0], "spec"), "template")
	*member(member(member(template, "metadata"), "annotations"), name) = *scalar(value)
}

func scalar(text string) *yaml.Node {
	node := &yaml.Node{}
	node.SetString(text)
	return node
}

// routes returns the config map that the edge mounts, with the address and the paths of each function.
func (m *manifests) routes() (*object, error) {
	type function struct {
		Name    string         `json:"name"`
		URL     string         `json:"url"`
		Routes  []string       `json:"routes"`
		Streams map[string]int `json:"streams,omitempty"`
	}
	var file struct {
		Functions []function `json:"functions"`
	}
	for _, f := range m.functions {
		if routes := f.Routes(); len(routes) > 0 {
			address := "http://" + f.Name() + "." + m.namespace + ".svc.cluster.local"
			file.Functions = append(file.Functions, function{f.Name(), address, routes, f.Streams()})
		}
	}
	text, err := json.MarshalIndent(file, "", "  ")
	if err != nil {
		return nil, err
	}
	objects, err := encodeOne(map[string]any{
		"apiVersion": "v1",
		"kind":       "ConfigMap",
		"metadata":   map[string]any{"name": "warble-routes", "namespace": m.namespace},
		"data":       map[string]string{"routes.json": string(text) + "\n"},
	})
	if err != nil {
		return nil, err
	}
	objects.file = "300-routes.yaml" // there is no such file; the name decides the order
	objects.node.HeadComment = "# The functions' addresses, for an edge that starts while the API server is unavailable. Generated from their manifests."
	return objects, nil
}

func encodeOne(value any) (*object, error) {
	text, err := yaml.Marshal(value)
	if err != nil {
		return nil, err
	}
	objects, err := parse(text)
	if err != nil {
		return nil, err
	}
	return objects[0], nil
}

// plan has the built objects, in the order in which they are applied.
type plan struct {
	ground    []*object // before the database's logins are made; includes the migration
	functions []*object // after that
	job       *object   // tries out the candidate; nil without a candidate
}

// split divides the objects that build has returned into a plan.
func split(objects []*object) (p plan) {
	if n := len(objects); n > 0 && objects[n-1].file == candidateFile {
		p.job, objects = objects[n-1], objects[:n-1]
	}
	at := slices.IndexFunc(objects, func(o *object) bool { return o.file >= "500" })
	if at < 0 {
		at = len(objects)
	}
	p.ground, p.functions = objects[:at], objects[at:]
	return p
}
