package manifest

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// SetEnv sets a variable of the container in the text of a Service's manifest, and returns the new text. Everything else stays,
// including comments and layout.
func SetEnv(text []byte, name, value string) ([]byte, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		return nil, err
	}
	at := &document
	for _, step := range []string{"", "spec", "template", "spec", "containers", "0", "env"} {
		if at = below(at, step); at == nil {
			return nil, fmt.Errorf("spec.template.spec.containers[0].env: expected variables")
		}
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	for _, variable := range at.Content {
		if n := below(variable, "name"); n == nil || n.Value != name {
			continue
		}
		old := below(variable, "value")
		if old == nil || old.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
			return nil, fmt.Errorf("env %s: expected a value in one line", name)
		}
		line := lines[old.Line-1]
		written := old.Value
		if old.Style&yaml.DoubleQuotedStyle != 0 {
			written = strconv.Quote(old.Value)
		} else if old.Style&yaml.SingleQuotedStyle != 0 {
			written = "'" + strings.ReplaceAll(old.Value, "'", "''") + "'"
		}
		rest, found := bytes.CutPrefix(line[old.Column-1:], []byte(written))
		if !found {
			return nil, fmt.Errorf("env %s: its value is not written plainly: expected %s", name, written)
		}
		lines[old.Line-1] = slices.Concat(line[:old.Column-1], []byte(strconv.Quote(value)), rest)
		return bytes.Join(lines, nil), nil
	}
	if at.Kind != yaml.SequenceNode || at.Style&yaml.FlowStyle != 0 || len(at.Content) == 0 {
		return nil, fmt.Errorf("env: expected a list with one variable per line")
	}
	first := at.Content[0] // whose dash is two columns before it
	indent := strings.Repeat(" ", first.Column-3)
	added := fmt.Sprintf("%s- name: %s\n%s  value: %s\n", indent, name, indent, strconv.Quote(value))
	lines = slices.Insert(lines, first.Line-1, []byte(added))
	return bytes.Join(lines, nil), nil
}

// below returns a member of a mapping, an element of a sequence, or the content of a document; nil if there is none.
func below(n *yaml.Node, step string) *yaml.Node {
	switch n.Kind {
	case yaml.DocumentNode:
		return n.Content[0]
	case yaml.SequenceNode:
		if i, err := strconv.Atoi(step); err == nil && i < len(n.Content) {
			return n.Content[i]
		}
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == step {
				return n.Content[i+1]
			}
		}
	}
	return nil
}
