package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
)

const releaseHeader = `# Warble. Needs Knative Serving and Eventing, %s or so, and PostgreSQL 15 to 18.
#
#   kubectl apply --server-side -f release.yaml
#
# This file does not contain the secrets. Pods mount or read each by the name and the key below, and wait for missing ones.
# "make deploy ARGS=secrets" makes them all, with the logins of the database (the README says how).
#
%s
`

// release writes one file with everything but the secrets.
func (b builder) release(ctx context.Context, file string) error {
	resolved, err := b.build(ctx, b.objects)
	if err != nil {
		return err
	}
	objects, err := encode(resolved)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	fmt.Fprintf(&text, releaseHeader, serving, strings.Join(missingObjects(resolved), "\n"))
	text.Write(objects)
	if err := os.WriteFile(file, text.Bytes(), 0o644); err != nil {
		return err
	}
	b.say("wrote %s", file)
	return nil
}

// missingObjects lists the secrets and config maps that pods need and that are not among the objects, as comments.
func missingObjects(objects []*object) []string {
	contents := map[string]string{
		ownerSecret:             urlKey + ": the database's URL, as its owner, not through a pooler",
		databaseSecret + "auth": urlKey + ": the database's URL, as a login in the group warble_auth",
		databaseSecret + "api":  urlKey + ": the same, in warble_api",
		databaseSecret + "mail": urlKey + ": the same, in warble_mail",
		databaseSecret + "ops":  urlKey + ": the same, in warble_ops",
		edgeSecret:              edgeKey + ": the key with which the edge signs, 32 random characters or more",
		privateSecret:           privateKey + ": an Ed25519 private key (PEM, PKCS#8)",
		publicMap:               publicKey + ": a JSON Web Key Set with its public half",
	}
	var lines []string
	for _, o := range objects {
		for _, r := range o.references() {
			if slices.ContainsFunc(objects, func(o *object) bool {
				return strings.EqualFold(o.Kind, r.kind) && o.Metadata.Name == r.name
			}) {
				continue
			}
			content := contents[r.name]
			if content == "" {
				content = r.key
			}
			if line := fmt.Sprintf("#   %-9s %-22s %s", r.kind, r.name, content); !slices.Contains(lines, line) {
				lines = append(lines, line)
			}
		}
	}
	slices.Sort(lines)
	return lines
}
