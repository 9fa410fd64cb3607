package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// provider is the schema of a provider, as `terraform providers schema -json` prints it.
type provider struct {
	Provenance  provenance     `json:"provenance"`
	Provider    any            `json:"provider"`
	Resources   map[string]any `json:"resource_schemas"`
	DataSources map[string]any `json:"data_source_schemas"`
	Ephemerals  map[string]any `json:"ephemeral_resource_schemas"`
}

// provenance is the source of a recording.
type provenance struct {
	Provider string `json:"provider"` // its address in Terraform's registry
	Version  string `json:"version"`
	From     string `json:"from"`
}

// schemas returns the types of a kind, which is resource, data or ephemeral, by name.
func (p *provider) schemas(kind string) map[string]any {
	return map[string]map[string]any{"resource": p.Resources, "data": p.DataSources, "ephemeral": p.Ephemerals}[kind]
}

// keep removes unused types, and descriptions.
func (p *provider) keep(types map[string]map[string]bool) {
	for kind, used := range types {
		maps.DeleteFunc(p.schemas(kind), func(name string, _ any) bool { return !used[name] })
		for _, schema := range p.schemas(kind) {
			strip(schema)
		}
	}
	strip(p.Provider)
}

// strip removes the descriptions. An attribute may be named description, too; its value is not a string.
func strip(value any) {
	switch v := value.(type) {
	case map[string]any:
		maps.DeleteFunc(v, func(key string, inner any) bool {
			_, text := inner.(string)
			return text && (key == "description" || key == "description_kind" || key == "deprecation_message") || key == "deprecated" && inner == true
		})
		for key, inner := range v {
			if _, object := inner.([]any); object && key == "type" {
				continue // here, description is an attribute's name
			}
			strip(inner)
		}
	case []any:
		for _, inner := range v {
			strip(inner)
		}
	}
}

// text returns the schema with one type on each line, so that a diff shows which types have changed.
func (p provider) text() []byte {
	var out bytes.Buffer
	line := func(value any) []byte {
		text, _ := json.Marshal(value) // cannot fail, because the value was read from JSON
		return text
	}
	fmt.Fprintf(&out, "{\n\"provenance\": %s,\n\"provider\": %s", line(p.Provenance), line(p.Provider))
	for _, part := range []struct {
		name    string
		schemas map[string]any
	}{{"resource_schemas", p.Resources}, {"data_source_schemas", p.DataSources}, {"ephemeral_resource_schemas", p.Ephemerals}} {
		fmt.Fprintf(&out, ",\n%q: {", part.name)
		for i, name := range slices.Sorted(maps.Keys(part.schemas)) {
			if i > 0 {
				out.WriteString(",")
			}
			fmt.Fprintf(&out, "\n%q: %s", name, line(part.schemas[name]))
		}
		out.WriteString("\n}")
	}
	out.WriteString("\n}\n")
	return out.Bytes()
}
