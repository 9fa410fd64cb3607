package main

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"testing"
)

// TestArchive: functions use its root certificates to verify a database and a broker, and run as a user who owns no file.
func TestArchive(t *testing.T) {
	t.Parallel()
	content, err := archive()
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]string)
	modes := make(map[string]fs.FileMode)
	for reader := tar.NewReader(bytes.NewReader(content)); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if header.ModTime.Unix() != 0 {
			t.Errorf("%s is of %v: expected the epoch, or each build has another digest", header.Name, header.ModTime)
		}
		text, err := io.ReadAll(reader)
		if err != nil {
			t.Fatal(err)
		}
		found["/"+header.Name], modes["/"+header.Name] = string(text), header.FileInfo().Mode()
	}
	if mode := modes["/tmp/"]; mode&fs.ModeSticky == 0 || mode.Perm() != 0o777 {
		t.Errorf("/tmp/ has %v: expected what everybody may write to, and nobody remove another's from", mode)
	}
	names := subjects(t, found[certificates])
	for _, want := range []string{"DigiCert Global Root G2", "Microsoft RSA Root Certificate Authority 2017", "ISRG Root X1"} {
		if !names[want] {
			t.Errorf("no root certificate of %s among %d", want, len(names))
		}
	}
}

// TestDigest: a second build makes the same image.
func TestDigest(t *testing.T) {
	t.Parallel()
	var digests [2]string
	for i := range digests {
		index, err := build()
		if err != nil {
			t.Fatal(err)
		}
		digest, err := index.Digest()
		if err != nil {
			t.Fatal(err)
		}
		digests[i] = digest.String()
	}
	if digests[0] != digests[1] {
		t.Errorf("two builds give %s and %s", digests[0], digests[1])
	}
}

func subjects(t *testing.T, bundle string) map[string]bool {
	t.Helper()
	names := make(map[string]bool)
	for rest := []byte(bundle); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return names
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		names[certificate.Subject.CommonName] = true
	}
}
