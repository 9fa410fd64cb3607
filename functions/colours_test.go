package functions_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestPagesHaveTheSameColours: the playground, the page of the contract, and the board with its reports have the same look. If
// several of them name a colour, it is the same in each, in the light and the dark scheme. All have the same font.
func TestPagesHaveTheSameColours(t *testing.T) {
	t.Parallel()
	first := make(map[string]string) // by scheme and name, the file and the value
	shared := 0
	for _, file := range []string{"web/assets/style.css", "edge/docs/docs.css", "../shared/report/style.css"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		light, dark, found := strings.Cut(string(text), "@media (prefers-color-scheme: dark)")
		if !found {
			t.Fatalf("%s has no colours for the dark", file)
		}
		dark, _, _ = strings.Cut(dark, "}\n}")
		for scheme, part := range map[string]string{"light": light, "dark": dark} {
			for _, variable := range regexp.MustCompile(`(--[a-z-]+): ([^;}]+)`).FindAllStringSubmatch(part, -1) {
				name, value := scheme+" "+variable[1], strings.TrimSpace(variable[2])
				if before, ok := first[name]; !ok {
					first[name] = value
				} else if shared++; before != value {
					t.Errorf("%s: %s is %s, and %s elsewhere", file, name, value, before)
				}
			}
		}
		if font := `16px/1.5 system-ui, "Liberation Sans", sans-serif`; !strings.Contains(string(text), font) {
			t.Errorf("%s: expected the font %s", file, font)
		}
	}
	if least := 20; shared < least {
		t.Errorf("%d colours are named twice: expected at least %d", shared, least)
	}
}
