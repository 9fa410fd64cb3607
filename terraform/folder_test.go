//go:build infra

package terraform_test

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/terraform-config-inspect/tfconfig"
	"github.com/zclconf/go-cty/cty"
)

// folder is a stack or a module.
type folder struct {
	name       string // as 01-cluster or modules/naming
	module     *tfconfig.Module
	body       []*hclsyntax.Body
	traversals []string // every reference in it, as var.project or module.names.base
	files      []string
}

func (f *folder) stack() bool { return !strings.HasPrefix(f.name, "modules/") }

func read(tree fs.FS) (folders []*folder, err error) {
	stacks, err := fs.Glob(tree, "[0-9][0-9]-*")
	if err != nil {
		return nil, err
	}
	modules, err := fs.Glob(tree, "modules/*")
	if err != nil {
		return nil, err
	}
	for _, name := range append(stacks, modules...) {
		module, diagnostics := tfconfig.LoadModuleFromFilesystem(tfconfig.WrapFS(tree), name)
		if diagnostics.HasErrors() {
			return nil, fmt.Errorf("%s: %w", name, diagnostics)
		}
		f := &folder{name: name, module: module}
		entries, err := fs.ReadDir(tree, name)
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			f.files = append(f.files, entry.Name())
			if path.Ext(entry.Name()) != ".tf" {
				continue
			}
			text, err := fs.ReadFile(tree, path.Join(name, entry.Name()))
			if err != nil {
				return nil, err
			}
			parsed, diagnostics := hclparse.NewParser().ParseHCL(text, path.Join(name, entry.Name()))
			if diagnostics.HasErrors() {
				return nil, diagnostics
			}
			f.body = append(f.body, parsed.Body.(*hclsyntax.Body))
			_ = hclsyntax.VisitAll(parsed.Body.(*hclsyntax.Body), func(node hclsyntax.Node) hcl.Diagnostics {
				if expression, ok := node.(*hclsyntax.ScopeTraversalExpr); ok {
					f.traversals = append(f.traversals, written(expression.Traversal))
				}
				return nil
			})
		}
		f.followStates()
		folders = append(folders, f)
	}
	return folders, nil
}

// followStates adds the reference to another stack's output for each reference to a local that stands for it.
func (f *folder) followStates() {
	for _, locals := range f.blocks("locals") {
		for name, attribute := range locals.Body.Attributes {
			expression, ok := attribute.Expr.(*hclsyntax.ScopeTraversalExpr)
			if !ok || !strings.HasPrefix(written(expression.Traversal), remoteState) {
				continue
			}
			for _, t := range f.traversals {
				if rest, ok := strings.CutPrefix(t, "local."+name+"."); ok {
					f.traversals = append(f.traversals, written(expression.Traversal)+"."+rest)
				}
			}
		}
	}
}

const remoteState = "data.terraform_remote_state."

// written returns a traversal in the form in which its author wrote it, without indices.
func written(traversal hcl.Traversal) string {
	names := []string{traversal.RootName()}
	for _, step := range traversal[1:] {
		if attribute, ok := step.(hcl.TraverseAttr); ok {
			names = append(names, attribute.Name)
		}
	}
	return strings.Join(names, ".")
}

// refers reports whether f has a reference that begins with prefix.
func (f *folder) refers(prefix string) bool {
	return slices.ContainsFunc(f.traversals, func(t string) bool { return t == prefix || strings.HasPrefix(t, prefix+".") })
}

// blocks returns the blocks of a type, in all files.
func (f *folder) blocks(kind string, labels ...string) (found []*hclsyntax.Block) {
	for _, body := range f.body {
		for _, block := range body.Blocks {
			if block.Type == kind && len(block.Labels) >= len(labels) && slices.Equal(block.Labels[:len(labels)], labels) {
				found = append(found, block)
			}
		}
	}
	return found
}

// text returns an attribute's value if it is a literal string, and "" otherwise.
func text(body *hclsyntax.Body, name string) string {
	attribute := body.Attributes[name]
	if attribute == nil {
		return ""
	}
	value, diagnostics := attribute.Expr.Value(nil)
	if diagnostics.HasErrors() || value.IsNull() || value.Type() != cty.String {
		return ""
	}
	return value.AsString()
}

// short returns a stack's name without its number. Other stacks use it as the name of the remote state.
func (f *folder) short() string { return regexp.MustCompile(`^[0-9]+-`).ReplaceAllString(f.name, "") }

// calls returns the name under which f calls a module, or "" if it does not call it.
func (f *folder) calls(module *folder) string {
	for name, call := range f.module.ModuleCalls {
		if path.Join(f.name, call.Source) == module.name {
			return name
		}
	}
	return ""
}
