// Package backend stands in for the backends that Terraform has in modules of their own, which exist in its repository only:
// go.mod replaces each by a link to here. They bring the SDKs of five clouds, too. What formats and tests needs none of them,
// and a stack that is told to use one keeps its state in memory.
package backend

import (
	"github.com/hashicorp/terraform/internal/backend"
	"github.com/hashicorp/terraform/internal/backend/remote-state/inmem"
)

// New returns a backend in memory.
func New() backend.Backend { return inmem.New() }
