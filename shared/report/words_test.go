package report_test

import (
	"io"
	"regexp"
	"strings"
	"testing"

	"warble/shared/experiment"
	"warble/shared/readout"
	"warble/shared/report"
)

// The report calls visitors visitors, and says how the edge knows units that do not belong to Warble.
func TestTheReportNamesItsUnits(t *testing.T) {
	t.Parallel()
	all := fixtures(t)
	for _, c := range []struct {
		fixture  string
		identity experiment.Identity
		want     []string
		not      string
	}{
		{"users", experiment.Identity{}, []string{"users of", "Users"}, "visitor|visitors|known by"},
		{"users", experiment.Identity{Kind: experiment.ByVisitor}, []string{"visitors of", "Visitors", "Known by", "the cookie warble_visitor"}, "user|users"},
		{"users", experiment.Identity{Kind: experiment.ByIssuer, Issuer: &experiment.Issuer{URL: "https://accounts.example.org"}}, []string{"users of", "Users", "Known by", "the tokens of https://accounts.example.org"}, "visitor|visitors"},
		{"communities", experiment.Identity{}, []string{"communities of", "Users"}, "visitor|visitors|known by"},
	} {
		r := all[c.fixture]
		r.Spec.Identity = c.identity
		r.Sentence, r.Next, r.Health = "", readout.Next{}, nil // readout writes these
		for name, format := range map[string]func(io.Writer, readout.Report) error{"text": plainText, "markdown": report.Markdown, "page": report.HTML} {
			text := string(write(t, format, r))
			if name == "page" {
				text = regexp.MustCompile(`(?s)<style.*?</style>|<[^>]*>`).ReplaceAllString(text, " ")
			}
			text = strings.Join(strings.Fields(text), " ")
			for _, words := range c.want {
				if !strings.Contains(text, strings.ReplaceAll(words, "_", map[bool]string{true: `\_`, false: "_"}[name == "markdown"])) {
					t.Errorf("%s by %q: the %s does not say %q", c.fixture, c.identity.Kind, name, words)
				}
			}
			if found := regexp.MustCompile(`(?i).{0,40}\b(` + c.not + `)\b.{0,40}`).FindString(text); found != "" {
				t.Errorf("%s by %q: the %s says %q", c.fixture, c.identity.Kind, name, found)
			}
		}
	}
}
