// Package functions holds the public contract of the functions beside it.
package functions

import _ "embed"

// OpenAPI is the contract, an OpenAPI 3.1 document in YAML.
//
//go:embed openapi.yaml
var OpenAPI []byte
