package functions_test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"warble/functions"
	"warble/shared/manifest"
	"warble/shared/store/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// TestEveryFunctionHasAFolderAManifestAndADescription: the manifest routes the function's paths, and the contract describes them.
func TestEveryFunctionHasAFolderAManifestAndADescription(t *testing.T) {
	t.Parallel()
	described := make(map[string]string)
	for _, o := range loadContract(t).operations {
		described[o.name] = strings.Join(o.Tags, " ")
	}
	for _, complaint := range findMissingParts(parts(t), described) {
		t.Error(complaint)
	}
}

func TestTheContractIsValid(t *testing.T) {
	t.Parallel()
	if err := validate(t, functions.OpenAPI); err != nil {
		t.Error(err)
	}
	for _, o := range loadContract(t).operations {
		for status, response := range o.Responses.Map() {
			problem := response.Value.Content["application/problem+json"]
			if problem == nil {
				continue
			}
			if example, ok := problem.Example.(map[string]any); !ok || fmt.Sprint(example["status"]) != status {
				t.Errorf("%s %s shows the problem %v", o.name, status, problem.Example)
			}
		}
	}
}

// TestTheRulesOfTheContractCanFail, because a rule that accepts anything would not be noticed.
func TestTheRulesOfTheContractCanFail(t *testing.T) {
	t.Parallel()
	whole := part{name: "like", folder: true, manifest: true, answers: []string{"POST /2/likes"}, routes: []string{"/2/likes"}}
	without := func(change func(*part)) part {
		p := whole
		change(&p)
		return p
	}
	for want, broken := range map[string]struct {
		part      part
		described map[string]string
	}{
		"functions/like has no manifest":                          {without(func(p *part) { p.manifest = false }), map[string]string{"POST /2/likes": "like"}},
		"500-like.yaml is of no function":                         {without(func(p *part) { p.folder = false }), map[string]string{"POST /2/likes": "like"}},
		"500-like.yaml does not route /2/likes":                   {without(func(p *part) { p.routes = nil }), map[string]string{"POST /2/likes": "like"}},
		"500-like.yaml routes /2/likes, which":                    {without(func(p *part) { p.answers = nil }), nil},
		"openapi.yaml does not describe POST /2/likes":            {whole, map[string]string{"GET /2/likes": "like"}},
		"openapi.yaml describes GET /2/likes, which no function":  {whole, map[string]string{"GET /2/likes": "like"}},
		`openapi.yaml tags POST /2/likes "tweet": expected "like`: {whole, map[string]string{"POST /2/likes": "tweet"}},
	} {
		found := findMissingParts([]part{broken.part}, broken.described)
		if !slices.ContainsFunc(found, func(c string) bool { return strings.Contains(c, want) }) {
			t.Errorf("no complaint with %q in %q", want, found)
		}
	}
	if found := findMissingParts([]part{whole}, map[string]string{"POST /2/likes": "like"}); len(found) > 0 {
		t.Errorf("nothing is forgotten, and %q", found)
	}

	for old, altered := range map[string]string{
		"operationId: login\n":                     "operationId: logout\n",                     // twice
		"in: query, description: The size":         "in: nowhere, description: The size",        // not OpenAPI
		"{text: \"hello, warble\"}":                "{txet: \"hello, warble\"}",                 // a body's example
		"example: ada}":                            "example: a da}",                            // a parameter's
		"examples: [gophers]":                      "examples: [Gophers]",                       // a schema's
		"instance: IFYB2VPCDEZGUFFTRJDAFH3OKE\n":   "instance: \"?\"\n",                         // an answer's
		"#/components/responses/Communities\"}":    "#/components/responses/Commons\"}",         // a reference
		"minimum: 1, maximum: 100, default: 10}}":  "minimum: 1, maximum: 100, default: many}}", // a default
		"type: string, format: date-time, pattern": "type: text, format: date-time, pattern",    // a type
	} {
		text := strings.Replace(string(functions.OpenAPI), old, altered, 1)
		if text == string(functions.OpenAPI) {
			t.Errorf("%q is not in the contract", old)
		}
		if validate(t, []byte(text)) == nil {
			t.Errorf("%q instead of %q is not noticed", altered, old)
		}
	}
}

// part says what exists of one function: its folder, its manifest, and the paths in both.
type part struct {
	name             string
	folder, manifest bool
	answers          []string // as in the code, for example "GET /2/tweets"
	routes           []string // as in the manifest, for example "/2/tweets"
}

// parts returns what exists of every function.
func parts(t *testing.T) []part {
	t.Helper()
	all := make(map[string]part)
	mains, err := filepath.Glob("*/main.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, main := range mains {
		name := filepath.Dir(main)
		all[name] = part{name: name, folder: true, answers: routesInCode(t, name)}
	}
	services, err := manifest.ReadAll("../knative")
	if err != nil {
		t.Fatal(err)
	}
	for _, service := range services {
		p := all[service.Name()]
		p.name, p.manifest, p.routes = service.Name(), true, service.Routes()
		if len(p.routes) == 0 {
			p.answers = nil // it answers no clients outside the cluster
		}
		all[p.name] = p
	}
	edge := all["edge"] // the edge routes all other paths, and answers these itself
	edge.routes = []string{"/openapi.yaml", "/docs", "/healthz", "/readyz"}
	for _, route := range edge.routes {
		edge.answers = append(edge.answers, "GET "+route)
	}
	all["edge"] = edge
	return slices.Collect(maps.Values(all))
}

var pattern = regexp.MustCompile(`^[A-Z]+ /`)

// routesInCode returns the keys of function.Routes in a folder's code.
func routesInCode(t *testing.T, folder string) (patterns []string) {
	t.Helper()
	files, err := filepath.Glob(folder + "/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		tree, err := parser.ParseFile(token.NewFileSet(), file, text, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			if pair, ok := n.(*ast.KeyValueExpr); ok {
				if key, ok := pair.Key.(*ast.BasicLit); ok {
					if value, err := strconv.Unquote(key.Value); err == nil && pattern.MatchString(value) {
						patterns = append(patterns, value)
					}
				}
			}
			return true
		})
	}
	return patterns
}

// findMissingParts compares folders, manifests, and the described operations with their tags.
func findMissingParts(all []part, described map[string]string) (found []string) {
	complain := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	answered := make(map[string]bool)
	for _, p := range all {
		manifest := "knative/500-" + p.name + ".yaml"
		if !p.manifest {
			complain("functions/%s has no manifest: copy one to %s", p.name, manifest)
		}
		if !p.folder {
			complain("%s is of no function: there is no functions/%s", manifest, p.name)
		}
		var paths []string
		for _, operation := range p.answers {
			answered[operation] = true
			_, path, _ := strings.Cut(operation, " ")
			paths = append(paths, path)
			if !slices.Contains(p.routes, path) {
				complain("%s does not route %s, which functions/%s answers: add it to %s", manifest, path, p.name, "warble.dev/routes")
			}
			if tag, ok := described[operation]; !ok {
				complain("functions/openapi.yaml does not describe %s, which functions/%s answers", operation, p.name)
			} else if tag != p.name {
				complain("functions/openapi.yaml tags %s %q: expected %q, the function that answers it", operation, tag, p.name)
			}
		}
		for _, route := range p.routes {
			if !slices.Contains(paths, route) {
				complain("%s routes %s, which functions/%s does not answer", manifest, route, p.name)
			}
		}
	}
	for operation := range described {
		if !answered[operation] {
			complain("functions/openapi.yaml describes %s, which no function answers", operation)
		}
	}
	slices.Sort(found)
	return found
}

// TestThePageFillsInNoHeader: Swagger UI would send an example with every Execute, and the same Idempotency-Key for two texts is a
// 422.
func TestThePageFillsInNoHeader(t *testing.T) {
	t.Parallel()
	for _, o := range loadContract(t).operations {
		for _, p := range o.parameters {
			v := p.Value
			if v.In == openapi3.ParameterInHeader && (v.Example != nil || v.Examples != nil || v.Schema.Value.Default != nil || v.Schema.Value.Examples != nil) {
				t.Errorf("%s: the header %s has an example, or a default", o.name, v.Name)
			}
		}
	}
}

// validate loads a document and checks it against OpenAPI 3.1, and its examples against its schemas.
func validate(t *testing.T, text []byte) error {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(text)
	if err != nil {
		return err
	}
	examples := doc.WalkSchemas(func(where string, schema *openapi3.SchemaRef) error { // Validate does not check them
		for _, example := range schema.Value.Examples {
			if err := schema.Value.VisitJSON(example, openapi3.EnableJSONSchema2020()); err != nil {
				return fmt.Errorf("%s: examples: %w", where, err)
			}
		}
		return nil
	})
	return errors.Join(examples, doc.Validate(t.Context(), openapi3.EnableMultiError()))
}
