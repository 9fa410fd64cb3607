package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// provider is the schema of one, as `terraform providers schema -json` has it.
type provider struct {
	Provenance  provenance     `json:"provenance"`
	Provider    any            `json:"provider"`
	Resources   map[string]any `json:"resource_schemas"`
	DataSources map[string]any `json:"data_source_schemas"`
	Ephemerals  map[string]any `json:"ephemeral_resource_schemas"`
}

// provenance says where a recording is from.
type provenance struct {
	Provider string `json:"provider"` // its address in Terraform's registry
	Version  string `json:"version"`
	From     string `json:"from"`
}

func (p *provider) of(kind string) map[string]any {
	return map[string]map[string]any{"resource": p.Resources, "data": p.DataSources, "ephemeral": p.Ephemerals}[kind]
}

// keep leaves the types that are used, without the prose.
func (p *provider) keep(types map[string]map[string]bool) {
	for kind, used := range types {
		maps.DeleteFunc(p.of(kind), func(name string, _ any) bool { return !used[name] })
		for _, schema := range p.of(kind) {
			strip(schema)
		}
	}
	strip(p.Provider)
}

// strip takes the descriptions out. An attribute may be called description, too: its value is no string.
func strip(value any) {
	switch v := value.(type) {
	case map[string]any:
		maps.DeleteFunc(v, func(key string, inner any) bool {
			_, text := inner.(string)
			return text && (key == "description" || key == "description_kind" || key == "deprecation_message") || key == "deprecated" && inner == true
		})
		for key, inner := range v {
			if _, object := inner.([]any); object && key == "type" {
				continue // in which description is an attribute's name again
			}
			strip(inner)
		}
	case []any:
		for _, inner := range v {
			strip(inner)
		}
	}
}

// text has one type a line, so that a new recording shows which have changed.
func (p provider) text() []byte {
	var out bytes.Buffer
	line := func(value any) []byte {
		text, _ := json.Marshal(value) // what was read as JSON is JSON
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
