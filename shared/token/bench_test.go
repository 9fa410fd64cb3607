package token

import (
	"crypto/ed25519"
	"testing"
)

func BenchmarkVerifyRepeated(b *testing.B) {
	k := newKeys(b)
	text := k.issue(b)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := k.verifier.Verify(text); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkVerifyNew(b *testing.B) {
	k := newKeys(b)
	text := k.issue(b)
	b.ReportAllocs()
	for b.Loop() {
		k.verifier.cache.Purge()
		if _, err := k.verifier.Verify(text); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkEd25519 measures the signature alone, the least that verifying a new token can cost.
func BenchmarkEd25519(b *testing.B) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		b.Fatal(err)
	}
	message := make([]byte, 380)
	signature := ed25519.Sign(private, message)
	b.ReportAllocs()
	for b.Loop() {
		if !ed25519.Verify(public, message, signature) {
			b.Fatal("not verified")
		}
	}
}

func BenchmarkIssue(b *testing.B) {
	k := newKeys(b)
	b.ReportAllocs()
	for b.Loop() {
		k.issue(b)
	}
}
