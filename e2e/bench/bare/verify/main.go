// Command verify is hello plus one Ed25519 verification of the bearer token's signature. It decodes only the signature. It ignores
// the rest of the token: header, claims and JSON.
package main

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
)

func main() {
	key, err := publicKey(os.Getenv("TOKEN_PUBLIC_KEYS_FILE"))
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "hello, world\n")
	})
	http.HandleFunc("/auth/validate", func(w http.ResponseWriter, r *http.Request) {
		token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		dot := strings.LastIndexByte(token, '.')
		signature, err := base64.RawURLEncoding.DecodeString(token[dot+1:])
		if err != nil || !ed25519.Verify(key, []byte(token[:max(dot, 0)]), signature) {
			http.Error(w, "unauthorized", http.StatusUnauthorized)
			return
		}
		_, _ = io.WriteString(w, "hello, world\n")
	})
	address := net.JoinHostPort(os.Getenv("HOST"), os.Getenv("PORT"))
	log.Fatal(http.ListenAndServe(address, nil)) //nolint:gosec // bare: timeouts would be a function's work
}

// publicKey reads the first key of a JSON Web Key Set.
func publicKey(file string) (ed25519.PublicKey, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var set struct {
		Keys [1]struct {
			X string `json:"x"`
		} `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, err
	}
	return base64.RawURLEncoding.DecodeString(set.Keys[0].X)
}
