package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"warble/shared/store"
	"warble/shared/token"
)

// Names and keys of what is made here, as the manifests mount it.
const (
	databaseSecret = "warble-database-" // and the role
	ownerSecret    = databaseSecret + "owner"
	urlKey         = "url"

	edgeSecret = "warble-edge"
	edgeKey    = "key"

	privateSecret = "warble-token-private"
	privateKey    = "private.pem"
	publicMap     = "warble-token-public"
	publicKey     = "jwks.json"

	routesMap = "warble-routes"
)

// roles are those of the functions in the database, one login and one secret each.
var roles = []string{"auth", "api", "mail", "ops"}

// makes reports whether what r names is this command's to make, and if so whether it can without being told more.
func (d *deployment) makes(r reference) (made, ours bool) {
	switch {
	case r.kind == "configmap" && (r.name == publicMap || r.name == routesMap),
		r.kind == "secret" && (r.name == privateSecret || r.name == edgeSecret):
		return true, true
	case r.kind == "secret" && r.name == ownerSecret:
		return d.direct != nil, true
	}
	for _, role := range roles {
		if r.kind == "secret" && r.name == databaseSecret+role {
			return d.direct != nil, true
		}
	}
	return false, false
}

// secrets makes what is missing. What is there is kept: a deployment changes no password and no key.
func (d *deployment) secrets(ctx context.Context) (err error) {
	if d.held, err = d.holdings(ctx); err != nil { // again, for a build may have taken long
		return err
	}
	if err := d.databaseSecrets(ctx); err != nil {
		return err
	}
	if err := d.tokenKeys(ctx); err != nil {
		return err
	}
	edge := d.secret(edgeSecret)
	if edge == nil {
		return d.put(ctx, "secret", edgeSecret, map[string]string{edgeKey: rand.Text() + rand.Text() + "\n"})
	}
	if _, ok := edge.value(edgeKey); !ok {
		return missingKey(edgeSecret, edgeKey, edge)
	}
	return nil
}

// put stores a secret or config map and says so, without its content.
func (d *deployment) put(ctx context.Context, kind, name string, data map[string]string) error {
	if err := d.store(ctx, d.held[[2]string{kind, name}], kind, name, data, nil); err != nil {
		return err
	}
	now := &held{Data: data}
	now.Metadata.Labels = map[string]string{managedBy: fieldManager}
	d.held[[2]string{kind, name}] = now
	d.say("wrote %s %s", kind, name)
	return nil
}

func (d *deployment) secret(name string) *held { return d.held[[2]string{"secret", name}] }

func (d *deployment) configMap(name string) *held { return d.held[[2]string{"configmap", name}] }

func missingKey(name, key string, h *held) error {
	return fmt.Errorf("secret %s has no key %s but %s: put it in, or delete the secret to have it made anew", name, key, h.keys())
}

// databaseSecrets gives each role its URL. A password is made with the secret that keeps it.
func (d *deployment) databaseSecrets(ctx context.Context) error {
	if d.direct == nil {
		d.say("DATABASE_DIRECT_URL is not set: the database's secrets and logins stay as they are")
		return nil
	}
	d.replaced = make(map[string]*held)
	write := func(name, want string) error {
		before := d.secret(name)
		if before != nil && (before.Metadata.Labels[managedBy] != fieldManager || before.Data[urlKey] == want) {
			return nil
		}
		if before != nil {
			d.replaced[name] = before
		}
		return d.put(ctx, "secret", name, map[string]string{urlKey: want})
	}
	if err := write(ownerSecret, at(*d.direct, d.podHost)); err != nil {
		return err
	}
	for _, role := range roles {
		name := databaseSecret + role
		login := newLogin(role, rand.Text())
		if before := d.secret(name); before != nil {
			var err error
			if login.Password, err = passwordOf(name, before); err != nil {
				return err
			}
		}
		if err := write(name, as(d.direct, login, d.poolerHost)); err != nil {
			return err
		}
	}
	return nil
}

// restore gives a secret back what it held, where none of its functions got ready with what it holds now: the revisions that
// serve on read it, too, each time that a pod of theirs starts.
func (d *deployment) restore(ctx context.Context) error {
	for _, name := range slices.Sorted(maps.Keys(d.replaced)) {
		uses, fails := 0, 0
		for _, o := range d.objects {
			if slices.ContainsFunc(o.references(), func(r reference) bool { return r.name == name }) {
				uses++
				if slices.Contains(d.notReady, o.Metadata.Name) {
					fails++
				}
			}
		}
		if fails < uses {
			continue
		}
		if err := d.put(ctx, "secret", name, d.replaced[name].Data); err != nil {
			return err
		}
		d.say("secret %s holds what it held before, for nothing got ready with the new", name)
	}
	return nil
}

func newLogin(role, password string) store.DatabaseLogin {
	return store.DatabaseLogin{Name: "warble_" + role + "_login", Group: "warble_" + role, Password: password}
}

func passwordOf(name string, h *held) (string, error) {
	text, ok := h.value(urlKey)
	if !ok {
		return "", missingKey(name, urlKey, h)
	}
	u, err := url.Parse(text)
	if err != nil || u.User == nil {
		return "", fmt.Errorf("secret %s, key %s: expected the URL of a login with its password, as postgres://login:password@host:5432/warble", name, urlKey)
	}
	password, _ := u.User.Password()
	return password, nil
}

// logins makes the database's logins with the passwords of the secrets, and the communities. A login whose password is
// right already keeps it: setting the same one again would change its hash, which poolers hold copies of.
func (d *deployment) logins(ctx context.Context) error {
	if d.direct == nil {
		if len(d.communities) > 0 {
			return errors.New("DATABASE_DIRECT_URL is not set: expected the URL of the database's owner, for -community")
		}
		return nil
	}
	conn, err := store.Connect(ctx, d.direct.String(), 0)
	if err != nil {
		return fmt.Errorf("DATABASE_DIRECT_URL: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // nothing is pending on it
	for _, role := range roles {
		name := databaseSecret + role
		secret := d.secret(name)
		if secret == nil || secret.Metadata.Labels[managedBy] != fieldManager {
			d.say("secret %s is not of this command's making: its login is left alone", name)
			continue
		}
		password, err := passwordOf(name, secret)
		if err != nil {
			return err
		}
		login := newLogin(role, password)
		if own, err := store.Connect(ctx, d.logIn(login), 0); err == nil {
			login.Password = ""
			if err := own.Close(ctx); err != nil {
				return err
			}
		}
		if err := store.CreateLogin(ctx, conn, login); err != nil {
			return err
		}
	}
	for _, c := range d.communities {
		if err := store.AddCommunity(ctx, conn, c[0], c[1]); err != nil {
			return fmt.Errorf("community %s: %w", c[0], err)
		}
	}
	return nil
}

// tokenKeys sees to it that there is a key that signs access tokens, and that the public set has its other half. The set
// goes first: a token that nobody can verify yet must not be signed.
func (d *deployment) tokenKeys(ctx context.Context) error {
	private, public := d.secret(privateSecret), d.configMap(publicMap)
	if _, ok := private.value(privateKey); private != nil && !ok {
		return missingKey(privateSecret, privateKey, private)
	}
	pair, err := complete(private, public)
	if err != nil {
		return err
	}
	if public == nil || public.Data[publicKey] != pair.public {
		if err := d.put(ctx, "configmap", publicMap, map[string]string{publicKey: pair.public}); err != nil {
			return err
		}
	}
	if private == nil {
		return d.put(ctx, "secret", privateSecret, map[string]string{privateKey: pair.private})
	}
	return nil
}

type keyPair struct{ private, public string }

// complete is token.NewKeyPair for what the cluster holds: either may be nil.
func complete(private, public *held) (pair keyPair, err error) {
	folder, err := os.MkdirTemp("", "warble-keys-") // which only this user may enter
	if err != nil {
		return pair, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	privateFile, publicFile := filepath.Join(folder, privateKey), filepath.Join(folder, publicKey)
	if text, ok := private.value(privateKey); ok {
		err = os.WriteFile(privateFile, []byte(text), 0o600)
	}
	if text, ok := public.value(publicKey); ok && err == nil {
		err = os.WriteFile(publicFile, []byte(text), 0o600)
	}
	if err != nil {
		return pair, err
	}
	if err := token.NewKeyPair(privateFile, publicFile); err != nil {
		return pair, errors.New(strings.ReplaceAll(err.Error(), folder+"/", "the cluster's "))
	}

	privateText, err := os.ReadFile(privateFile)
	if err != nil {
		return pair, err
	}
	publicText, err := os.ReadFile(publicFile)
	return keyPair{string(privateText), string(publicText)}, err
}
