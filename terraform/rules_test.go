//go:build infra

// Package terraform_test has the rules for the stacks and modules that can be checked without Terraform's
// providers, which not every machine can download.
package terraform_test

import (
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// complaints reads the stacks and modules of a tree, and returns their mistakes.
func complaints(tree fs.FS) (found []string) {
	folders, err := read(tree)
	if err != nil {
		return []string{err.Error()}
	}
	readme, _ := fs.ReadFile(tree, "README.md") // if it is missing, its lines are missing too
	for _, f := range folders {
		complain := func(format string, args ...any) { found = append(found, f.name+": "+fmt.Sprintf(format, args...)) }
		f.references(complain)
		f.variables(complain)
		f.nulls(complain)
		f.outputs(complain, folders, string(readme))
		f.versions(complain)
		f.wiring(complain, folders)
		f.secrets(complain)
		if !slices.ContainsFunc(f.files, func(name string) bool { return strings.HasSuffix(name, ".tftest.hcl") }) {
			complain("has no *.tftest.hcl")
		}
		if f.stack() {
			f.example(complain, tree)
			f.backend(complain)
		} else if !slices.ContainsFunc(folders, func(user *folder) bool { return user.calls(f) != "" }) {
			complain("is used by no stack")
		}
	}
	return found
}

type complainer func(format string, args ...any)

// references: every referenced name exists. Terraform checks this too, but only with the providers.
func (f *folder) references(complain complainer) {
	declared := make(map[string]bool)
	for _, body := range f.body {
		for _, block := range body.Blocks {
			switch block.Type {
			case "variable":
				declared["var."+block.Labels[0]] = true
			case "locals":
				for name := range block.Body.Attributes {
					declared["local."+name] = true
				}
			case "resource":
				declared[strings.Join(block.Labels, ".")] = true
			case "module", "data", "ephemeral":
				declared[block.Type+"."+strings.Join(block.Labels, ".")] = true
			}
		}
	}
	for _, t := range f.traversals {
		parts := strings.Split(t, ".")
		length := 2
		switch parts[0] {
		case "var", "local", "module":
		case "data", "ephemeral":
			length = 3
		default:
			if provider, _, _ := strings.Cut(parts[0], "_"); f.module.RequiredProviders[provider] == nil {
				continue // each, path, an attribute in ignore_changes, or the variable of a for or of a dynamic block
			}
		}
		if name := strings.Join(parts[:min(length, len(parts))], "."); !declared[name] {
			complain("refers to %s, which it does not have", name)
		}
	}
}

func (f *folder) variables(complain complainer) {
	for _, name := range slices.Sorted(maps.Keys(f.module.Variables)) {
		variable := f.module.Variables[name]
		if variable.Description == "" {
			complain("variable %s has no description", name)
		}
		if variable.Type == "" || variable.Type == "any" {
			complain("variable %s has no type", name)
		}
		used := slices.ContainsFunc(f.body, func(body *hclsyntax.Body) bool { return usesOutsideItself(body, name) })
		if !used {
			complain("variable %s is used nowhere", name)
		}
	}
}

// nulls: Terraform before 1.12 evaluates both sides of || and &&, so `var.mail == null || var.mail.port > 0` is an error if
// mail is null.
func (f *folder) nulls(complain complainer) {
	for _, body := range f.body {
		_ = hclsyntax.VisitAll(body, func(node hclsyntax.Node) hcl.Diagnostics {
			either, ok := node.(*hclsyntax.BinaryOpExpr)
			if !ok || either.Op != hclsyntax.OpLogicalOr && either.Op != hclsyntax.OpLogicalAnd {
				return nil
			}
			asked, ok := either.LHS.(*hclsyntax.BinaryOpExpr)
			if !ok || asked.Op != hclsyntax.OpEqual && asked.Op != hclsyntax.OpNotEqual {
				return nil
			}
			subject, ok := asked.LHS.(*hclsyntax.ScopeTraversalExpr)
			if value, diagnostics := asked.RHS.Value(nil); !ok || diagnostics.HasErrors() || !value.IsNull() {
				return nil
			}
			if name := written(subject.Traversal); reads(either.RHS, name+".") {
				complain("reads a part of %s beside asking whether it is null: expected try(..., false) around it", name)
			}
			return nil
		})
	}
}

// reads reports whether an expression has a reference that begins with a prefix outside of try and can.
func reads(expression hclsyntax.Node, prefix string) bool {
	r := &reader{prefix: prefix}
	_ = hclsyntax.Walk(expression, r)
	return r.found
}

type reader struct {
	prefix  string
	guarded int // number of calls of try and can around the present expression
	found   bool
}

func guard(node hclsyntax.Node) bool {
	call, ok := node.(*hclsyntax.FunctionCallExpr)
	return ok && (call.Name == "try" || call.Name == "can")
}

func (r *reader) Enter(node hclsyntax.Node) hcl.Diagnostics {
	if guard(node) {
		r.guarded++
	}
	reference, ok := node.(*hclsyntax.ScopeTraversalExpr)
	r.found = r.found || ok && r.guarded == 0 && strings.HasPrefix(written(reference.Traversal), r.prefix)
	return nil
}

func (r *reader) Exit(node hclsyntax.Node) hcl.Diagnostics {
	if guard(node) {
		r.guarded--
	}
	return nil
}

// usesOutsideItself reports whether a variable is used. Its own validation does not count.
func usesOutsideItself(body *hclsyntax.Body, name string) (used bool) {
	for _, block := range body.Blocks {
		if block.Type == "variable" && block.Labels[0] == name {
			continue
		}
		_ = hclsyntax.VisitAll(block, func(node hclsyntax.Node) hcl.Diagnostics {
			expression, ok := node.(*hclsyntax.ScopeTraversalExpr)
			used = used || ok && strings.HasPrefix(written(expression.Traversal)+".", "var."+name+".")
			return nil
		})
	}
	return used
}

func (f *folder) outputs(complain complainer, folders []*folder, readme string) {
	for _, name := range slices.Sorted(maps.Keys(f.module.Outputs)) {
		if f.module.Outputs[name].Description == "" {
			complain("output %s has no description", name)
		}
		consumed := f.stack() && strings.Contains(readme, "`"+name+"`")
		for _, other := range folders {
			if f.stack() {
				consumed = consumed || other.refers(remoteState+f.short()+".outputs."+name)
			} else if call := other.calls(f); call != "" {
				consumed = consumed || other.refers("module."+call+"."+name) || other.spreads(call, name)
			}
		}
		if !consumed {
			complain("output %s is read by nobody: expected another stack, or a line of README.md", name)
		}
	}
}

// spreads reports whether f reads an output of each instance of a module, as { for name, i in module.github : name => i.id }.
func (f *folder) spreads(call, output string) bool {
	return f.refers("module."+call) && slices.ContainsFunc(f.traversals, func(t string) bool {
		return strings.Count(t, ".") == 1 && strings.HasSuffix(t, "."+output) && !strings.HasPrefix(t, "var.") && !strings.HasPrefix(t, "local.")
	})
}

var (
	pinned     = regexp.MustCompile(`^(= ?)?[0-9]+\.[0-9]+\.[0-9]+$|^~> [0-9]+\.[0-9]+(\.[0-9]+)?$`)
	exact      = regexp.MustCompile(`^v?[0-9]+\.[0-9]+\.[0-9]+$`)
	bothBounds = regexp.MustCompile(`^>= [0-9.]+, < [0-9.]+$`)
)

func (f *folder) versions(complain complainer) {
	if len(f.module.RequiredCore) != 1 || !bothBounds.MatchString(f.module.RequiredCore[0]) {
		complain("required_version is %q: expected one as \">= 1.11, < 2.0\"", f.module.RequiredCore)
	}
	for _, name := range slices.Sorted(maps.Keys(f.module.RequiredProviders)) {
		provider := f.module.RequiredProviders[name]
		if name == "terraform" {
			continue // it is built in
		}
		if provider.Source == "" || len(provider.VersionConstraints) != 1 || !pinned.MatchString(provider.VersionConstraints[0]) {
			complain("provider %s is of %q, version %q: expected a source, and a version as \"~> 5.12\"", name, provider.Source, provider.VersionConstraints)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(f.module.ModuleCalls)) {
		if call := f.module.ModuleCalls[name]; !strings.HasPrefix(call.Source, "../") {
			complain("module %s comes from %s: expected one of modules/", name, call.Source)
		}
	}
	for _, release := range f.blocks("resource", "helm_release") {
		chart, version := text(release.Body, "chart"), text(release.Body, "version")
		if !strings.HasPrefix(chart, "./") && release.Body.Attributes["repository"] != nil && !exact.MatchString(version) {
			complain("helm_release %s is of version %q: expected an exact one", release.Labels[1], version)
		}
	}
	if !f.stack() && len(f.blocks("provider")) > 0 {
		complain("has a provider block, which a module gets from its stack")
	}
}

// wiring: an output that a stack reads from another's state exists, and belongs to a stack that is applied before.
func (f *folder) wiring(complain complainer, folders []*folder) {
	byShort := make(map[string]*folder)
	for _, other := range folders {
		if other.stack() {
			byShort[other.short()] = other
		}
	}
	for _, state := range f.blocks("data", "terraform_remote_state") {
		source, key := byShort[state.Labels[1]], ""
		if config, ok := state.Body.Attributes["config"]; ok {
			if object, ok := config.Expr.(*hclsyntax.ObjectConsExpr); ok {
				for _, item := range object.Items {
					if name, _ := item.KeyExpr.Value(nil); name.Type() == cty.String && name.AsString() == "key" {
						value, _ := item.ValueExpr.Value(nil)
						key = value.AsString()
					}
				}
			}
		}
		switch {
		case source == nil:
			complain("reads the state of %s: there is no such stack", state.Labels[1])
		case key != source.name+".tfstate":
			complain("reads the state of %s with the key %q: expected %s.tfstate", state.Labels[1], key, source.name)
		case source.name >= f.name:
			complain("reads the state of %s, which is applied later", source.name)
		}
	}
	seen := make(map[string]bool)
	for _, t := range f.traversals {
		parts := strings.Split(strings.TrimPrefix(t, remoteState), ".")
		if !strings.HasPrefix(t, remoteState) || len(parts) < 3 || parts[1] != "outputs" || seen[parts[0]+parts[2]] {
			continue
		}
		seen[parts[0]+parts[2]] = true
		if source := byShort[parts[0]]; source != nil && source.module.Outputs[parts[2]] == nil {
			complain("reads output %s of %s, which has none", parts[2], source.name)
		}
	}
}

// keepsData are resources that must not be destroyed by mistake.
var keepsData = []string{"azurerm_key_vault", "azurerm_postgresql_flexible_server", "azurerm_postgresql_flexible_server_database"}

// secrets: no secret is in the state, because more people may read the state than the vault. Resources with data cannot be destroyed.
func (f *folder) secrets(complain complainer) {
	for _, resource := range f.blocks("resource") {
		kind, address := resource.Labels[0], strings.Join(resource.Labels, ".")
		if kind == "random_password" || kind == "random_string" || kind == "tls_private_key" {
			complain("%s keeps its secret in the state: expected an ephemeral block", address)
		}
		for name := range resource.Body.Attributes {
			if kind == "azurerm_key_vault_secret" && name == "value" || strings.HasSuffix(name, "password") {
				complain("%s.%s writes a secret into the state: expected %s_wo", address, name, name)
			}
		}
		if !slices.Contains(keepsData, kind) {
			continue
		}
		kept := false
		for _, block := range resource.Body.Blocks {
			if attribute := block.Body.Attributes["prevent_destroy"]; block.Type == "lifecycle" && attribute != nil {
				value, _ := attribute.Expr.Value(nil)
				kept = value.Type() == cty.Bool && value.True()
			}
		}
		if !kept {
			complain("%s may be destroyed: expected lifecycle { prevent_destroy = true }", address)
		}
	}
}

func (f *folder) backend(complain complainer) {
	for _, terraform := range f.blocks("terraform") {
		for _, block := range terraform.Body.Blocks {
			if key := text(block.Body, "key"); block.Type == "backend" && block.Labels[0] == "azurerm" && key == f.name+".tfstate" {
				return
			}
		}
	}
	complain("keeps its state elsewhere: expected backend \"azurerm\" with the key %s.tfstate", f.name)
}

// example: terraform.tfvars.example sets every variable without a default, and only variables.
func (f *folder) example(complain complainer, tree fs.FS) {
	const name = "terraform.tfvars.example"
	content, err := fs.ReadFile(tree, path.Join(f.name, name))
	if err != nil {
		complain("has no %s", name)
		return
	}
	parsed, diagnostics := hclparse.NewParser().ParseHCL(content, name)
	if diagnostics.HasErrors() {
		complain("%s", diagnostics.Error())
		return
	}
	set, _ := parsed.Body.JustAttributes()
	for _, variable := range slices.Sorted(maps.Keys(set)) {
		if f.module.Variables[variable] == nil {
			complain("%s sets %s, which is no variable", name, variable)
		}
	}
	for _, variable := range slices.Sorted(maps.Keys(f.module.Variables)) {
		if fromMake := variable == "state_account"; f.module.Variables[variable].Required && set[variable] == nil && !fromMake {
			complain("%s does not set %s, which has no default", name, variable)
		}
	}
}
