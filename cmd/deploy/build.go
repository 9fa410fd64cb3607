package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"warble/shared/env"
)

const (
	koScheme = "ko://"
	pinnedKo = "go tool -modfile=tools/ko/go.mod ko"
)

// builder is ko's command line.
type builder []string

// readBuilder reads KO, the command, and sees to it that ko will find its registry, which it reads by itself.
func readBuilder(e *env.Reader) builder {
	e.Required("KO_DOCKER_REPO", "the registry that images are pushed to and that the cluster pulls from, as registry.example.org/warble")
	return strings.Fields(e.String("KO", pinnedKo))
}

// withoutScheme makes image names of ko's import paths, as a check of the rest demands them.
func withoutScheme(text []byte) []byte {
	return bytes.ReplaceAll(text, []byte(koScheme), []byte("ko.local/"))
}

// build builds and pushes the images, and returns all that is to be applied, in its order: the objects with the digests of
// their images, and the routes for an edge that starts while the API server is away.
func (d *deployment) build(ctx context.Context, ko builder) ([]*object, error) {
	start := time.Now()
	arguments := append(slices.Clone(ko[1:]), "resolve", "--base-import-paths")
	files := make(map[string]bool)
	for _, o := range d.objects {
		if !files[o.file] {
			files[o.file] = true
			arguments = append(arguments, "--filename="+filepath.Join(d.folder, o.file))
		}
	}
	d.say("building images")
	text, err := execute(ctx, nil, ko[0], arguments...)
	if err != nil {
		return nil, fmt.Errorf("build images: %w", err)
	}
	resolved, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("what ko resolved: %w", err)
	}
	if len(resolved) != len(d.objects) {
		return nil, fmt.Errorf("ko resolved %d objects: expected %d", len(resolved), len(d.objects))
	}
	for i, o := range resolved {
		o.file = d.objects[i].file
		if o.head != d.objects[i].head {
			return nil, fmt.Errorf("ko resolved %s in the place of %s", o, d.objects[i])
		}
		if o.Kind == "Job" && o.file != candidateFile {
			if err := o.nameAfterContent(); err != nil {
				return nil, err
			}
		}
	}
	d.say("built images in %s", time.Since(start).Round(100*time.Millisecond))
	routes, err := d.routes()
	if err != nil {
		return nil, err
	}
	functions := slices.IndexFunc(resolved, func(o *object) bool { return o.file >= routes.file })
	return slices.Insert(resolved, functions, routes), nil
}

// nameAfterContent gives a Job, which cannot be changed, a name of its own for each release. Applied again, it is the one
// that has run already.
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

// member returns a mapping's value by its name, and puts an empty mapping there if there is none.
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

// databaseAnnotation says, on a revision, where its database is.
const databaseAnnotation = "warble.dev/database"

// nameDatabases writes where the database is, as the secrets have it, into the functions that use one. A secret's change
// reaches pods as they start, whenever that is; this makes it a new revision, which has to be ready first.
func (d *deployment) nameDatabases(objects []*object) {
	for _, o := range objects {
		if !strings.HasPrefix(o.APIVersion, "serving.knative.dev/") || o.Kind != "Service" {
			continue
		}
		for _, r := range o.references() {
			text, ok := d.held[[2]string{r.kind, r.name}].value(r.key)
			u, err := url.Parse(text)
			if !ok || !strings.HasPrefix(r.name, databaseSecret) || err != nil {
				continue
			}
			template := member(member(o.node.Content[0], "spec"), "template")
			annotations := member(member(template, "metadata"), "annotations")
			*member(annotations, databaseAnnotation) = *scalar(u.Host + u.Path)
		}
	}
}

func scalar(text string) *yaml.Node {
	node := &yaml.Node{}
	node.SetString(text)
	return node
}

// routes is the config map that the edge mounts: where each function is, and which paths it answers.
func (d *deployment) routes() (*object, error) {
	type function struct {
		Name   string   `json:"name"`
		URL    string   `json:"url"`
		Routes []string `json:"routes"`
	}
	var file struct {
		Functions []function `json:"functions"`
	}
	for _, f := range d.functions {
		if routes := f.Routes(); len(routes) > 0 {
			address := "http://" + f.Name() + "." + d.namespace + ".svc.cluster.local"
			file.Functions = append(file.Functions, function{f.Name(), address, routes})
		}
	}
	text, err := json.MarshalIndent(file, "", "  ")
	if err != nil {
		return nil, err
	}
	objects, err := encodeOne(map[string]any{
		"apiVersion": "v1",
		"kind":       "ConfigMap",
		"metadata":   map[string]any{"name": "warble-routes", "namespace": d.namespace},
		"data":       map[string]string{"routes.json": string(text) + "\n"},
	})
	if err != nil {
		return nil, err
	}
	objects.file = "300-routes.yaml" // which is made here, and has its place among the others
	objects.node.HeadComment = "# Where the functions are, for an edge that starts while the API server is away. Made from their manifests."
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

// split parts what has to be there before the database's logins from the functions and what comes after them.
func split(objects []*object) (before, after []*object) {
	at := slices.IndexFunc(objects, func(o *object) bool { return o.file >= "500" })
	if at < 0 {
		at = len(objects)
	}
	return objects[:at], objects[at:]
}
