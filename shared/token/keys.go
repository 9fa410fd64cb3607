package token

import (
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
)

// base64url is the encoding of RFC 7515: without padding, and with only one text for the same bytes.
var base64url = base64.RawURLEncoding.Strict()

// keySet has the keys whose tokens are accepted, by kid.
type keySet struct {
	byID map[string]ed25519.PublicKey
	jwks []byte // what /.well-known/jwks.json answers
}

// jwk is an Ed25519 key in the format of RFC 8037.
type jwk struct {
	KeyType   string `json:"kty"`
	Curve     string `json:"crv"`
	X         string `json:"x"`
	ID        string `json:"kid"`
	Use       string `json:"use"`
	Algorithm string `json:"alg"`
	Private   string `json:"d,omitempty"` // read only to refuse it
}

type jwks struct {
	Keys []jwk `json:"keys"`
}

// parseKeySet reads a JWKS. The file is our own, so any key other than an Ed25519 public key is an error, and is not skipped.
func parseKeySet(text []byte) (*keySet, error) {
	var file jwks
	if err := json.Unmarshal(text, &file); err != nil {
		return nil, fmt.Errorf("expected a JSON Web Key Set: %w", err)
	}
	var keys []ed25519.PublicKey
	for n, k := range file.Keys {
		key, err := k.public()
		if err != nil {
			return nil, fmt.Errorf("key %d of the set: %w", n+1, err)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, errors.New("the JSON Web Key Set holds no key")
	}
	return newKeySet(keys)
}

func (k jwk) public() (ed25519.PublicKey, error) {
	if k.Private != "" {
		return nil, errors.New("a private key does not belong here")
	}
	x, err := base64url.DecodeString(k.X)
	if k.KeyType != "OKP" || k.Curve != "Ed25519" || err != nil || len(x) != ed25519.PublicKeySize {
		return nil, errors.New("expected kty OKP, crv Ed25519 and x of 32 bytes")
	}
	if k.ID != thumbprint(x) {
		return nil, errors.New("kid is not the key's thumbprint")
	}
	return x, nil
}

func newKeySet(keys []ed25519.PublicKey) (*keySet, error) {
	set := &keySet{byID: make(map[string]ed25519.PublicKey, len(keys))}
	var file jwks
	for _, key := range keys {
		id := thumbprint(key)
		if set.byID[id] != nil {
			continue
		}
		set.byID[id] = key
		file.Keys = append(file.Keys, jwk{
			KeyType:   "OKP",
			Curve:     "Ed25519",
			X:         base64url.EncodeToString(key),
			ID:        id,
			Use:       "sig",
			Algorithm: "EdDSA",
		})
	}
	var err error
	set.jwks, err = json.Marshal(file)
	return set, err
}

// thumbprint is a key's kid: RFC 7638's SHA-256 over its required members, in the order of section 3.2.
func thumbprint(key ed25519.PublicKey) string {
	sum := sha256.Sum256([]byte(`{"crv":"Ed25519","kty":"OKP","x":"` + base64url.EncodeToString(key) + `"}`))
	return base64url.EncodeToString(sum[:])
}

const pemType = "PRIVATE KEY"

func parsePrivate(text []byte) (ed25519.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != pemType {
		return nil, errors.New("expected a PEM block PRIVATE KEY")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("expected PKCS#8: %w", err)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, errors.New("expected an Ed25519 key")
	}
	return key, nil
}

func public(key crypto.Signer) ed25519.PublicKey { return key.Public().(ed25519.PublicKey) }
