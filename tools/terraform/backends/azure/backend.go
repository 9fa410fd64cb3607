// Package backend stands in for a backend of Terraform's: go.mod, two folders up, says why.
package backend

import (
	"github.com/hashicorp/terraform/internal/backend"
	"github.com/hashicorp/terraform/internal/backend/remote-state/inmem"
	"github.com/hashicorp/terraform/internal/configs/configschema"
	"github.com/hashicorp/terraform/internal/tfdiags"
	"github.com/zclconf/go-cty/cty"
)

// azure keeps the state in memory, and takes what the stacks tell Azure's backend.
type azure struct{ backend.Backend }

// New returns a backend in memory.
func New() backend.Backend { return azure{inmem.New()} }

func (azure) ConfigSchema() *configschema.Block {
	block := &configschema.Block{Attributes: make(map[string]*configschema.Attribute)}
	for _, name := range []string{"storage_account_name", "container_name", "key"} {
		block.Attributes[name] = &configschema.Attribute{Type: cty.String, Optional: true}
	}
	block.Attributes["use_azuread_auth"] = &configschema.Attribute{Type: cty.Bool, Optional: true}
	return block
}

func (azure) PrepareConfig(config cty.Value) (cty.Value, tfdiags.Diagnostics) { return config, nil }

func (a azure) Configure(cty.Value) tfdiags.Diagnostics {
	return a.Backend.Configure(cty.ObjectVal(map[string]cty.Value{"lock_id": cty.NullVal(cty.String)}))
}
