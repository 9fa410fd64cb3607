package main

import (
	"bytes"
	"errors"
	"fmt"
	"go/build"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"warble/shared/manifest"
)

// manifests are the manifests of a folder, in the order of their numbers.
type manifests struct {
	folder    string
	namespace string
	functions []*manifest.Service
	objects   []*object
}

// object is one document of a manifest.
type object struct {
	file string // its name, without the folder
	node *yaml.Node
	head
}

type head struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`
	Metadata   struct {
		Name      string `yaml:"name"`
		Namespace string `yaml:"namespace"`
	} `yaml:"metadata"`
}

func (o *object) String() string { return o.Kind + " " + o.Metadata.Name }

// clusterScoped are the kinds that have no namespace.
var clusterScoped = []string{"Namespace", "CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding"}

// readManifests reads folder and reports all mistakes together, each by its file. root is the folder of the module.
func readManifests(root, folder string) (*manifests, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s: there are no manifests: run this at the root of the repository", folder)
	}
	m := &manifests{folder: folder}
	var mistakes []error
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		objects, err := parse(text)
		if err != nil {
			mistakes = append(mistakes, fmt.Errorf("%s: %w", file, err))
		}
		for _, o := range objects {
			o.file = filepath.Base(file)
		}
		m.objects = append(m.objects, objects...)
	}
	if len(mistakes) > 0 {
		return nil, errors.Join(mistakes...)
	}
	m.functions, err = manifest.ReadAll(folder)
	return m, errors.Join(err, m.check(root))
}

// parse reads the documents of a stream. It leaves out empty documents.
func parse(text []byte) ([]*object, error) {
	var objects []*object
	for decoder := yaml.NewDecoder(bytes.NewReader(text)); ; {
		o := &object{node: new(yaml.Node)}
		if err := decoder.Decode(o.node); errors.Is(err, io.EOF) {
			return objects, nil
		} else if err != nil {
			return nil, err
		}
		var whole any // decoding into it finds a member that is there twice
		if err := errors.Join(o.node.Decode(&whole), o.node.Decode(&o.head)); err != nil {
			return nil, err
		}
		if whole != nil {
			objects = append(objects, o)
		}
	}
}

// encode is the reverse of parse, comments included.
func encode(objects []*object) ([]byte, error) {
	var text bytes.Buffer
	encoder := yaml.NewEncoder(&text)
	encoder.SetIndent(2)
	for _, o := range objects {
		if err := encoder.Encode(o.node); err != nil {
			return nil, fmt.Errorf("%s: %w", o.file, err)
		}
	}
	return text.Bytes(), encoder.Close()
}

func (m *manifests) check(root string) error {
	var mistakes []error
	complain := func(o *object, format string, args ...any) {
		mistakes = append(mistakes, fmt.Errorf("%s: %s: %s", filepath.Join(m.folder, o.file), o, fmt.Sprintf(format, args...)))
	}
	accounts, seen := make(map[string]bool), make(map[head]string)
	for _, o := range m.objects {
		switch o.Kind {
		case "Namespace":
			m.namespace = o.Metadata.Name
		case "ServiceAccount":
			accounts[o.Metadata.Name] = true
		}
		if other, twice := seen[o.head]; twice {
			complain(o, "the same object is also in %s", other)
		}
		seen[o.head] = o.file
	}
	if m.namespace == "" {
		mistakes = append(mistakes, fmt.Errorf("%s: expected one manifest to have the Namespace", m.folder))
	}
	for _, o := range m.objects {
		switch namespaced := !slices.Contains(clusterScoped, o.Kind); {
		case o.APIVersion == "" || o.Kind == "" || o.Metadata.Name == "":
			complain(o, "expected apiVersion, kind and metadata.name")
		case namespaced && o.Metadata.Namespace != m.namespace:
			complain(o, "metadata.namespace is %q: expected %s", o.Metadata.Namespace, m.namespace)
		}
		for _, image := range o.strings("image") {
			if path, ok := strings.CutPrefix(image, koScheme); !ok {
				complain(o, "image %s: expected ko:// and the import path of a command", image)
			} else if !isCommand(root, path) {
				complain(o, "image %s: no main package has that import path", image)
			}
		}
		for _, account := range o.strings("serviceAccountName") {
			if !accounts[account] {
				complain(o, "serviceAccountName %s: no manifest has that ServiceAccount", account)
			}
		}
	}
	return errors.Join(mistakes...)
}

// isCommand reports whether an import path is a main package of this module. It does not run the go command, which would take longer than the
// rest of the check.
func isCommand(root, path string) bool {
	folder, ok := strings.CutPrefix(path, "warble/")
	p, err := build.ImportDir(filepath.Join(root, folder), 0)
	return ok && err == nil && p.IsCommand()
}

// reference is a secret or config map that a pod needs.
type reference struct {
	kind, name string
	key        string // empty for a volume, which mounts all keys
}

// references returns the secrets and config maps without which the pods of o cannot start.
func (o *object) references() []reference {
	var found []reference
	add := func(kind string, source map[string]any, name string) {
		if source[name] == nil || source["optional"] == true {
			return
		}
		key, _ := source["key"].(string)
		found = append(found, reference{kind, fmt.Sprint(source[name]), key})
	}
	o.walk(func(member string, value any) {
		source, _ := value.(map[string]any)
		switch member {
		case "secretKeyRef":
			add("secret", source, "name")
		case "configMapKeyRef":
			add("configmap", source, "name")
		case "secret":
			add("secret", source, "secretName")
		case "configMap":
			add("configmap", source, "name")
		}
	})
	return found
}

// strings returns the values of all members of a name, if they are strings.
func (o *object) strings(member string) []string {
	var found []string
	o.walk(func(name string, value any) {
		if text, ok := value.(string); ok && name == member {
			found = append(found, text)
		}
	})
	return found
}

// walk calls visit for every member of every mapping in o, in the order of their names.
func (o *object) walk(visit func(member string, value any)) {
	var whole any
	_ = o.node.Decode(&whole) // cannot fail, because parse has decoded it before
	var walk func(any)
	walk = func(value any) {
		switch value := value.(type) {
		case map[string]any:
			for _, member := range slices.Sorted(maps.Keys(value)) {
				visit(member, value[member])
				walk(value[member])
			}
		case []any:
			for _, element := range value {
				walk(element)
			}
		}
	}
	walk(whole)
}
