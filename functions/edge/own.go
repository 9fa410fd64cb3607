package main

import (
	"net/http"
	"strings"

	"github.com/swaggest/swgui/v5/static"
	"github.com/swaggest/swgui/v5emb"
)

// ownRoutes is what the edge answers itself: the contract, and Swagger UI from the binary to read it with.
func ownRoutes(contract []byte) *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("/openapi.yaml", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/yaml")
		_, _ = w.Write(contract) // the client may be gone, and there is nobody else to tell
	})
	ui := v5emb.New("Warble", "/openapi.yaml", "/docs/")
	mux.Handle("/docs", ui)
	mux.Handle("/docs/{$}", ui)
	// Each file by its name: for any other path below /docs/ the file server has redirects and a 404 of its own.
	files, err := static.FS.ReadDir(".")
	if err != nil {
		panic(err) // they are in the binary
	}
	for _, file := range files {
		mux.Handle("/docs/"+strings.TrimSuffix(file.Name(), ".gz"), ui)
	}
	return mux
}
