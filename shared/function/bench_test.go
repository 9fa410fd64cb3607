package function_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"warble/shared/function"
)

// BenchmarkAssertion measures the cost of the edge's assertions: signing a request, and answering a signed one, including the access line.
func BenchmarkAssertion(b *testing.B) {
	request := httptest.NewRequest(http.MethodGet, "/2/tweets/1", http.NoBody)
	request.Header.Set("X-Request-Id", "one")
	request.Header.Set(function.HeaderClient, "203.0.113.9")
	f := function.NewTest(io.Discard)
	signer := function.NewSigner(function.TestKey)
	b.Run("sign", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			signer.Sign(request, time.Now())
		}
	})
	handler := f.Handler(function.Routes{"GET /2/tweets/{id}": function.JSON(func(ctx context.Context, _ struct{}) (string, error) {
		return function.Network(ctx), nil
	})})
	b.Run("answer", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			signer.Sign(request, time.Now())
			answer := httptest.NewRecorder()
			handler.ServeHTTP(answer, request)
			if answer.Body.String() != "\"203.0.113.0/24\"\n" {
				b.Fatal(answer.Body)
			}
		}
	})
}
