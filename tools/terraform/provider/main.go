// Command provider stands in for a Terraform provider: it serves the schema that `make schemas` recorded, which is enough for
// `terraform validate` and for tests with mock_provider. Its file's name says which one it is, as Terraform has it:
// terraform-provider-azurerm_v5.2.0 serves azurerm.json of the folder that RECORDED_SCHEMAS names.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6/tf6server"
)

func main() {
	name, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(os.Args[0]), "terraform-provider-"), "_")
	recorded, err := read(filepath.Join(os.Getenv("RECORDED_SCHEMAS"), name+".json"))
	if err != nil {
		log.Fatal(err)
	}
	err = tf6server.Serve("registry.terraform.io/hashicorp/"+name, func() tfprotov6.ProviderServer { return &provider{response: recorded} })
	if err != nil {
		log.Fatal(err)
	}
}

// read returns a recording as Terraform's protocol has it.
func read(file string) (*tfprotov6.GetProviderSchemaResponse, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var written struct {
		Provider    schema            `json:"provider"`
		Resources   map[string]schema `json:"resource_schemas"`
		DataSources map[string]schema `json:"data_source_schemas"`
		Ephemerals  map[string]schema `json:"ephemeral_resource_schemas"`
	}
	if err := json.Unmarshal(text, &written); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	response := &tfprotov6.GetProviderSchemaResponse{}
	if response.Provider, err = written.Provider.protocol(); err == nil {
		response.ResourceSchemas, err = all(written.Resources)
	}
	if err == nil {
		response.DataSourceSchemas, err = all(written.DataSources)
	}
	if err == nil {
		response.EphemeralResourceSchemas, err = all(written.Ephemerals)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return response, nil
}
