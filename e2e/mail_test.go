//go:build e2e

package e2e_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"warble/shared/apitest"
)

// mailLimit is the longest time of a mail: the waits of relay and broker after failures, and a start of mail from zero.
const mailLimit = 5 * time.Minute

// office is a mail server in the cluster.
type office struct{ objects string }

// openOffice applies the mail server, and makes the function mail use it, until the test ends.
func openOffice(t *testing.T) *office {
	t.Helper()
	objects, err := execute(t.Context(), "", "go", "tool", "-modfile=tools/ko/go.mod", "ko", "resolve", "--base-import-paths", "--sbom=none", "-f", "e2e/office/pod.yaml")
	if err != nil {
		t.Fatal(err)
	}
	o := &office{objects}
	t.Cleanup(func() {
		if _, err := kubectl(context.Background(), objects, "delete", "--ignore-not-found", "--filename=-"); err != nil {
			t.Error(err)
		}
	})
	o.open(t)
	env, err := serviceOf(t, "mail").variables()
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"SMTP_URL": "smtp://office." + namespace + ".svc.cluster.local:2525?tls=none", "MAIL_FROM": "Warble <warble@example.org>", "PUBLIC_URL": "http://" + warble.host,
	} {
		env = set(env, name, value)
	}
	patch(t, "mail", change{"replace", envPath, env})
	untilReady(t, "mail")
	run(t, "wait", "--for=condition=Ready", "--timeout=150s", "trigger/mail")
	return o
}

// open starts the server, without letters.
func (o *office) open(t *testing.T) {
	t.Helper()
	if _, err := kubectl(t.Context(), o.objects, "apply", "--filename=-"); err != nil {
		t.Fatal(err)
	}
	run(t, "wait", "--for=condition=Ready", "--timeout=150s", "pod/office")
}

// await waits for the newest letter of a kind to an address, and returns the token of its link.
func (o *office) await(t *testing.T, to, kind string) (token string) {
	t.Helper()
	within(t, "a mail of kind "+kind, mailLimit, func() bool {
		token = ""
		for line := range strings.Lines(run(t, "logs", "pod/office")) {
			var l apitest.Letter
			if json.Unmarshal([]byte(line), &l) != nil || l.To != to {
				continue // a log line of the server, not a letter
			}
			if page, of, text := l.Link(); of == kind {
				token = text
				if page != "http://"+warble.host+"/confirm" || l.From != "warble@example.org" {
					t.Errorf("a mail from %s whose link leads to %s", l.From, page)
				}
			}
		}
		return token != ""
	})
	return token
}

// From a registration to a verified address, through the outbox, the relay, the broker, mail, which is at zero, and a mail server. Then
// a new password, and one mail while the server is down.
func TestClusterSendsMail(t *testing.T) {
	cluster(t)
	o := openOffice(t)
	ada := register(t, "")
	nobody := &user{t: t}
	want := func(u *user, status int, method, path, body string) string {
		t.Helper()
		a := u.do(method, path, body)
		if a.status != status {
			t.Fatalf("%s %s: %d %s, want %d", method, path, a.status, a.body, status)
		}
		return a.body
	}
	verified := func(u *user) bool {
		return strings.Contains(want(u, http.StatusOK, "GET", "/auth/export", ""), `"email_verified":true`)
	}

	token := o.await(t, ada.email, "verify")
	want(nobody, http.StatusOK, "GET", "/confirm", "")
	if verified(ada) {
		t.Error("verified before anybody has used the link")
	}
	want(nobody, http.StatusNoContent, "POST", "/auth/verify-email", object("token", token))
	want(nobody, http.StatusUnprocessableEntity, "POST", "/auth/verify-email", object("token", token))
	if !verified(ada) {
		t.Error("not verified")
	}
	want(ada, http.StatusConflict, "POST", "/auth/verify-email/resend", "")

	want(nobody, http.StatusAccepted, "POST", "/auth/password-reset", object("email", ada.email))
	const next = "an-otter-that-sings"
	want(nobody, http.StatusNoContent, "POST", "/auth/password-reset/confirm", object("token", o.await(t, ada.email, "reset"), "new", next))
	want(nobody, http.StatusOK, "POST", "/auth/login", object("email", ada.email, "password", next))

	run(t, "delete", "pod/office")
	bob := register(t, "")
	within(t, "mail's complaint", mailLimit, func() bool {
		text, _ := kubectl(t.Context(), "", "logs", "--selector=serving.knative.dev/service=mail", "--container=user-container", "--since=1m", "--tail=-1")
		return strings.Contains(text, "SMTP_URL: ") // an error means that the container has not started
	})
	o.open(t)
	want(nobody, http.StatusNoContent, "POST", "/auth/verify-email", object("token", o.await(t, bob.email, "verify")))
	within(t, "mail at zero", mailLimit, func() bool { return len(pods(t, "mail")) == 0 })
}
