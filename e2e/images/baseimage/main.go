// Command baseimage builds the functions' base image, and pushes it to a registry, unless the registry has it.
//
//	baseimage 127.0.0.1:5000/base:latest
//
// It needs no network and pulls nothing. With a network, ko.yaml's distroless image is used instead. It prints the
// digest, which depends only on this program's source, its go.sum and the Go version, and not on the machine.
package main

import (
	"fmt"
	"os"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: baseimage REGISTRY/NAME:TAG")
		os.Exit(2)
	}
	digest, err := push(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "baseimage:", err)
		os.Exit(1)
	}
	fmt.Println(digest)
}

func push(target string) (string, error) {
	reference, err := name.ParseReference(target)
	if err != nil {
		return "", err
	}
	index, err := build()
	if err != nil {
		return "", err
	}
	digest, err := index.Digest()
	if err != nil {
		return "", err
	}
	if there, err := remote.Head(reference); err == nil && there.Digest == digest {
		return digest.String(), nil
	}
	return digest.String(), remote.WriteIndex(reference, index)
}
