package main

import (
	"encoding/json"
	"fmt"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

// What `terraform providers schema -json` writes: https://developer.hashicorp.com/terraform/cli/commands/providers/schema.
type (
	schema struct {
		Version int64 `json:"version"`
		Block   block `json:"block"`
	}
	block struct {
		Attributes map[string]attribute `json:"attributes"`
		BlockTypes map[string]struct {
			Nesting  string `json:"nesting_mode"`
			Block    block  `json:"block"`
			MinItems int64  `json:"min_items"`
			MaxItems int64  `json:"max_items"`
		} `json:"block_types"`
	}
	attribute struct {
		Type       json.RawMessage `json:"type"`
		NestedType *struct {
			Attributes map[string]attribute `json:"attributes"`
			Nesting    string               `json:"nesting_mode"`
		} `json:"nested_type"`
		Required  bool `json:"required"`
		Optional  bool `json:"optional"`
		Computed  bool `json:"computed"`
		Sensitive bool `json:"sensitive"`
		WriteOnly bool `json:"write_only"`
	}
)

var (
	blockNesting = map[string]tfprotov6.SchemaNestedBlockNestingMode{
		"single": tfprotov6.SchemaNestedBlockNestingModeSingle, "list": tfprotov6.SchemaNestedBlockNestingModeList,
		"set": tfprotov6.SchemaNestedBlockNestingModeSet, "map": tfprotov6.SchemaNestedBlockNestingModeMap,
		"group": tfprotov6.SchemaNestedBlockNestingModeGroup,
	}
	objectNesting = map[string]tfprotov6.SchemaObjectNestingMode{
		"single": tfprotov6.SchemaObjectNestingModeSingle, "list": tfprotov6.SchemaObjectNestingModeList,
		"set": tfprotov6.SchemaObjectNestingModeSet, "map": tfprotov6.SchemaObjectNestingModeMap,
	}
)

func all(written map[string]schema) (map[string]*tfprotov6.Schema, error) {
	schemas := make(map[string]*tfprotov6.Schema, len(written))
	for name, s := range written {
		converted, err := s.protocol()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		schemas[name] = converted
	}
	return schemas, nil
}

func (s schema) protocol() (*tfprotov6.Schema, error) {
	b, err := s.Block.protocol()
	return &tfprotov6.Schema{Version: s.Version, Block: b}, err
}

func (b block) protocol() (*tfprotov6.SchemaBlock, error) {
	attributes, err := protocol(b.Attributes)
	if err != nil {
		return nil, err
	}
	converted := &tfprotov6.SchemaBlock{Attributes: attributes}
	for name, nested := range b.BlockTypes {
		inner, err := nested.Block.protocol()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		converted.BlockTypes = append(converted.BlockTypes, &tfprotov6.SchemaNestedBlock{
			TypeName: name, Block: inner, Nesting: blockNesting[nested.Nesting], MinItems: nested.MinItems, MaxItems: nested.MaxItems,
		})
	}
	return converted, nil
}

func protocol(attributes map[string]attribute) (converted []*tfprotov6.SchemaAttribute, err error) {
	for name, a := range attributes {
		c := &tfprotov6.SchemaAttribute{
			Name: name, Required: a.Required, Optional: a.Optional, Computed: a.Computed, Sensitive: a.Sensitive, WriteOnly: a.WriteOnly,
		}
		if a.NestedType != nil {
			c.NestedType = &tfprotov6.SchemaObject{Nesting: objectNesting[a.NestedType.Nesting]}
			c.NestedType.Attributes, err = protocol(a.NestedType.Attributes)
		} else {
			c.Type, err = tftypes.ParseJSONType(a.Type) //nolint:staticcheck // Terraform's own reader of these is internal
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		converted = append(converted, c)
	}
	return converted, nil
}
