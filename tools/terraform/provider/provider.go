package main

import (
	"context"
	"strings"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

// provider accepts every configuration that fits its schema, and plans it. Data sources, and all that is applied, are mocked by
// Terraform's tests.
type provider struct {
	tfprotov6.ProviderServer // nil: a call that is not below panics, and Terraform says which
	response                 *tfprotov6.GetProviderSchemaResponse
}

func (p *provider) GetMetadata(context.Context, *tfprotov6.GetMetadataRequest) (*tfprotov6.GetMetadataResponse, error) {
	return &tfprotov6.GetMetadataResponse{}, nil
}

func (p *provider) GetProviderSchema(context.Context, *tfprotov6.GetProviderSchemaRequest) (*tfprotov6.GetProviderSchemaResponse, error) {
	return p.response, nil
}

func (p *provider) ValidateProviderConfig(_ context.Context, r *tfprotov6.ValidateProviderConfigRequest) (*tfprotov6.ValidateProviderConfigResponse, error) {
	return &tfprotov6.ValidateProviderConfigResponse{PreparedConfig: r.Config}, nil
}

func (p *provider) ValidateResourceConfig(context.Context, *tfprotov6.ValidateResourceConfigRequest) (*tfprotov6.ValidateResourceConfigResponse, error) {
	return &tfprotov6.ValidateResourceConfigResponse{}, nil
}

func (p *provider) ValidateDataResourceConfig(context.Context, *tfprotov6.ValidateDataResourceConfigRequest) (*tfprotov6.ValidateDataResourceConfigResponse, error) {
	return &tfprotov6.ValidateDataResourceConfigResponse{}, nil
}

func (p *provider) ValidateEphemeralResourceConfig(context.Context, *tfprotov6.ValidateEphemeralResourceConfigRequest) (*tfprotov6.ValidateEphemeralResourceConfigResponse, error) {
	return &tfprotov6.ValidateEphemeralResourceConfigResponse{}, nil
}

func (p *provider) ConfigureProvider(context.Context, *tfprotov6.ConfigureProviderRequest) (*tfprotov6.ConfigureProviderResponse, error) {
	return &tfprotov6.ConfigureProviderResponse{}, nil
}

func (p *provider) StopProvider(context.Context, *tfprotov6.StopProviderRequest) (*tfprotov6.StopProviderResponse, error) {
	return &tfprotov6.StopProviderResponse{}, nil
}

// PlanResourceChange leaves unknown what the real provider would make up.
func (p *provider) PlanResourceChange(_ context.Context, r *tfprotov6.PlanResourceChangeRequest) (*tfprotov6.PlanResourceChangeResponse, error) {
	schema := p.response.ResourceSchemas[r.TypeName]
	values, err := members(r.ProposedNewState, schema)
	if err != nil || values == nil {
		return &tfprotov6.PlanResourceChangeResponse{PlannedState: r.ProposedNewState}, err // nil: it is destroyed
	}
	for _, a := range schema.Block.Attributes {
		switch {
		case a.WriteOnly:
			values[a.Name] = tftypes.NewValue(values[a.Name].Type(), nil)
		case a.Computed && values[a.Name].IsNull():
			values[a.Name] = tftypes.NewValue(values[a.Name].Type(), tftypes.UnknownValue)
		}
	}
	planned, err := tfprotov6.NewDynamicValue(schema.ValueType(), tftypes.NewValue(schema.ValueType(), values))
	return &tfprotov6.PlanResourceChangeResponse{PlannedState: &planned}, err
}

// members are the attributes and blocks of a value, or nil if it is null.
func members(value *tfprotov6.DynamicValue, schema *tfprotov6.Schema) (map[string]tftypes.Value, error) {
	v, err := value.Unmarshal(schema.ValueType())
	if err != nil || v.IsNull() {
		return nil, err
	}
	values := make(map[string]tftypes.Value)
	return values, v.As(&values)
}

// OpenEphemeralResource makes up each string that random would. What another provider would read is not there.
func (p *provider) OpenEphemeralResource(_ context.Context, r *tfprotov6.OpenEphemeralResourceRequest) (*tfprotov6.OpenEphemeralResourceResponse, error) {
	if !strings.HasPrefix(r.TypeName, "random_") {
		return &tfprotov6.OpenEphemeralResourceResponse{Diagnostics: []*tfprotov6.Diagnostic{{
			Severity: tfprotov6.DiagnosticSeverityError,
			Summary:  r.TypeName + " is read while planning",
			Detail:   "Before the first apply it does not exist: expected a configuration that is unknown until then.",
		}}}, nil
	}
	schema := p.response.EphemeralResourceSchemas[r.TypeName]
	values, err := members(r.Config, schema)
	if err != nil {
		return nil, err
	}
	for _, a := range schema.Block.Attributes {
		if a.Computed && values[a.Name].IsNull() && a.Type.Is(tftypes.String) {
			values[a.Name] = tftypes.NewValue(tftypes.String, "made up")
		}
	}
	result, err := tfprotov6.NewDynamicValue(schema.ValueType(), tftypes.NewValue(schema.ValueType(), values))
	return &tfprotov6.OpenEphemeralResourceResponse{Result: &result}, err
}

func (p *provider) CloseEphemeralResource(context.Context, *tfprotov6.CloseEphemeralResourceRequest) (*tfprotov6.CloseEphemeralResourceResponse, error) {
	return &tfprotov6.CloseEphemeralResourceResponse{}, nil
}
