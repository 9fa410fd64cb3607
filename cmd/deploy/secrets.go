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

// Names and keys of the secrets and config maps that this command makes. The manifests mount them.
const (
	databaseSecret = "warble-database-" // followed by the role
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

// roles are the functions' roles in the database. Each has a login and a secret.
var roles = []string{"auth", "api", "mail", "ops"}

// isOurs reports whether this command makes the secret or config map that r names.
func isOurs(r reference) bool {
	if r.kind == "configmap" {
		return r.name == publicMap || r.name == routesMap
	}
	role, ofDatabase := strings.CutPrefix(r.name, databaseSecret)
	return r.kind == "secret" && (r.name == privateSecret || r.name == edgeSecret || r.name == ownerSecret || ofDatabase && slices.Contains(roles, role))
}

// secrets is the result of makeSecrets.
type secrets struct {
	holdings holdings
	replaced map[string]*held // the former content of the database's secrets that it has changed
}

// makeSecrets makes missing secrets and config maps. It keeps existing ones, so a deployment never changes a password or a key. It first reads
// the cluster again, because a build may have taken long.
func (d *deployment) makeSecrets(ctx context.Context, s settings) (made secrets, err error) {
	if made.holdings, err = d.readHoldings(ctx); err != nil {
		return made, err
	}
	if made.replaced, err = d.makeDatabaseSecrets(ctx, s, made.holdings); err != nil {
		return made, err
	}
	if err := d.makeTokenKeys(ctx, made.holdings); err != nil {
		return made, err
	}
	return made, d.makeEdgeKey(ctx, made.holdings)
}

// makeEdgeKey makes the key with which the edge signs.
func (d *deployment) makeEdgeKey(ctx context.Context, all holdings) error {
	edge := all.secret(edgeSecret)
	if edge == nil {
		return d.put(ctx, all, "secret", edgeSecret, map[string]string{edgeKey: rand.Text() + rand.Text() + "\n"})
	}
	if _, ok := edge.value(edgeKey); !ok {
		return missingKey(edgeSecret, edgeKey, edge)
	}
	return nil
}

// put writes a secret or config map, in the cluster and in all. It prints the name, and not the content.
func (d *deployment) put(ctx context.Context, all holdings, kind, name string, data map[string]string) error {
	if err := d.write(ctx, all[[2]string{kind, name}], kind, name, data, nil); err != nil {
		return err
	}
	now := &held{Data: data}
	now.Metadata.Labels = map[string]string{managedBy: fieldManager}
	all[[2]string{kind, name}] = now
	d.say("wrote %s %s", kind, name)
	return nil
}

func missingKey(name, key string, h *held) error {
	return fmt.Errorf("secret %s does not have the key %s, only %s: add the key, or delete the secret so that it is made again", name, key, h.keys())
}

// makeDatabaseSecrets writes each role's URL into its secret, and returns the former content of the secrets that had another URL. It makes a
// password only when it makes the secret.
func (d *deployment) makeDatabaseSecrets(ctx context.Context, s settings, all holdings) (replaced map[string]*held, err error) {
	if s.direct == nil {
		d.say("DATABASE_DIRECT_URL is not set: the database's secrets and logins are not changed")
		return nil, nil
	}
	replaced = make(map[string]*held)
	write := func(name, want string) error {
		before := all.secret(name)
		if before != nil && (before.Metadata.Labels[managedBy] != fieldManager || before.Data[urlKey] == want) {
			return nil
		}
		if before != nil {
			replaced[name] = before
		}
		return d.put(ctx, all, "secret", name, map[string]string{urlKey: want})
	}
	if err := write(ownerSecret, atHost(*s.direct, s.podHost)); err != nil {
		return nil, err
	}
	for _, role := range roles {
		name := databaseSecret + role
		login := newLogin(role, rand.Text())
		if before := all.secret(name); before != nil {
			if login.Password, err = passwordOf(name, before); err != nil {
				return nil, err
			}
		}
		if err := write(name, s.urlOf(login, s.poolerHost)); err != nil {
			return nil, err
		}
	}
	return replaced, nil
}

// restoreSecrets restores the former content of a changed secret if no function that uses it is ready. The old revisions still serve, and read
// the secret each time that one of their pods starts.
func (d *deployment) restoreSecrets(ctx context.Context, objects []*object, made secrets, unready []string) error {
	for _, name := range slices.Sorted(maps.Keys(made.replaced)) {
		works := slices.ContainsFunc(objects, func(o *object) bool {
			uses := slices.ContainsFunc(o.references(), func(r reference) bool { return r.name == name })
			return uses && !slices.Contains(unready, o.Metadata.Name)
		})
		if works {
			continue
		}
		if err := d.put(ctx, made.holdings, "secret", name, made.replaced[name].Data); err != nil {
			return err
		}
		d.say("secret %s was restored, because no function became ready with the new content", name)
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
		return "", fmt.Errorf("secret %s, key %s: expected the URL of a login with its password, such as postgres://login:password@host:5432/warble", name, urlKey)
	}
	password, _ := u.User.Password()
	return password, nil
}

// makeLogins creates the database's logins with the passwords of the secrets, and the communities. A password that is right already is not set
// again, because this would change its hash, and poolers have copies of the hash.
func (d *deployment) makeLogins(ctx context.Context, s settings, all holdings) error {
	if s.direct == nil {
		if len(s.communities) > 0 {
			return errors.New("-community: expected DATABASE_DIRECT_URL to be set to the URL of the database's owner")
		}
		return nil
	}
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // nothing is pending on it
	for _, role := range roles {
		name := databaseSecret + role
		secret := all.secret(name)
		if secret == nil || secret.Metadata.Labels[managedBy] != fieldManager {
			d.say("secret %s was not made by this command, so its login is not changed", name)
			continue
		}
		password, err := passwordOf(name, secret)
		if err != nil {
			return err
		}
		login := newLogin(role, password)
		if own, err := store.Connect(ctx, s.urlOf(login, ""), 0); err == nil {
			login.Password = ""
			if err := own.Close(ctx); err != nil {
				return err
			}
		}
		if err := store.CreateLogin(ctx, conn, login); err != nil {
			return err
		}
	}
	for _, c := range s.communities {
		if err := store.AddCommunity(ctx, conn, c[0], c[1]); err != nil {
			return fmt.Errorf("community %s: %w", c[0], err)
		}
	}
	return nil
}

// makeTokenKeys makes the key that signs access tokens, if it is missing, and adds its public half to the public set. It writes the set first,
// so that no token is signed that nobody can verify.
func (d *deployment) makeTokenKeys(ctx context.Context, all holdings) error {
	private, public := all.secret(privateSecret), all.configMap(publicMap)
	if _, ok := private.value(privateKey); private != nil && !ok {
		return missingKey(privateSecret, privateKey, private)
	}
	pair, err := completeKeyPair(private, public)
	if err != nil {
		return err
	}
	if public == nil || public.Data[publicKey] != pair.public {
		if err := d.put(ctx, all, "configmap", publicMap, map[string]string{publicKey: pair.public}); err != nil {
			return err
		}
	}
	if private == nil {
		return d.put(ctx, all, "secret", privateSecret, map[string]string{privateKey: pair.private})
	}
	return nil
}

type keyPair struct{ private, public string }

// completeKeyPair calls token.NewKeyPair with the cluster's keys. Either may be nil.
func completeKeyPair(private, public *held) (pair keyPair, err error) {
	folder, err := os.MkdirTemp("", "warble-keys-") // only this user may enter it
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
