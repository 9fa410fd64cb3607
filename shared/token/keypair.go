package token

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// NewKeyPair makes sure that privateFile has a signing key, and that the key set in publicFile has its public key. It keeps
// an existing private key, and the other keys of an existing set; the first step of a rotation needs this. Both files are
// written atomically, so several processes may call it at the same time.
func NewKeyPair(privateFile, publicFile string) error {
	private, err := ensurePrivate(privateFile)
	if err != nil {
		return err
	}
	keys := []ed25519.PublicKey{public(private)}
	switch text, err := os.ReadFile(publicFile); {
	case err == nil:
		set, err := parseKeySet(text)
		if err != nil {
			return fmt.Errorf("key set %s: %w", publicFile, err)
		}
		if set.byID[thumbprint(keys[0])] != nil {
			return nil
		}
		for _, id := range slices.Sorted(maps.Keys(set.byID)) {
			keys = append(keys, set.byID[id])
		}
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("read key set: %w", err)
	}
	set, err := newKeySet(keys)
	if err != nil {
		return err
	}
	return whole(publicFile, append(set.jwks, '\n'), 0o644, os.Rename)
}

func ensurePrivate(file string) (ed25519.PrivateKey, error) {
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		if err := writePrivate(file); err != nil {
			return nil, err
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read private key: %w", err)
	}
	key, err := parsePrivate(text)
	if err != nil {
		return nil, fmt.Errorf("private key %s: %w", file, err)
	}
	return key, nil
}

func writePrivate(file string) error {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der})
	// A link, unlike a rename, never replaces a key that another process has just written.
	if err := whole(file, text, 0o600, os.Link); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// whole writes a file atomically: first a temporary file beside it, then place moves that to its name.
func whole(file string, text []byte, mode os.FileMode, place func(from, to string) error) error {
	temporary, err := os.CreateTemp(filepath.Dir(file), ".new-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	defer os.Remove(temporary.Name())
	_, err = temporary.Write(text)
	if err := errors.Join(err, temporary.Chmod(mode), temporary.Close()); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	if err := place(temporary.Name(), file); err != nil {
		return fmt.Errorf("put %s in place: %w", file, err)
	}
	return nil
}
