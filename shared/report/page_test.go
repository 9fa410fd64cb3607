//go:build e2e

package report_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"warble/shared/browsertest"
	"warble/shared/report"
)

// look finds plots in which nothing is drawn, and text that is too small, reaches out of its plot, or overlaps other text.
const look = `(() => {
	const found = [], wide = document.documentElement.clientWidth;
	for (const svg of document.querySelectorAll("svg[role=img], svg.span")) {
		const name = svg.getAttribute("aria-label") ?? svg.closest("tr").innerText.split("\n")[0], frame = svg.getBoundingClientRect(), plot = svg.matches("[role=img]");
		let drawn = 0;
		for (const path of svg.querySelectorAll("path")) {
			const box = path.getBoundingClientRect(), style = getComputedStyle(path);
			if (box.width + box.height > 0 && (style.stroke != "none" || style.fill != "none")) drawn++;
		}
		if (plot && (frame.width < 200 || drawn < 5)) found.push("plot " + name + ": " + drawn + " lines in " + frame.width + " px");
		const texts = [...svg.querySelectorAll("text")];
		for (const [i, text] of texts.entries()) {
			const box = text.getBoundingClientRect();
			if (box.left < frame.left - 8 || box.right > Math.min(wide, frame.right + 8) || box.top < frame.top - 8 || box.bottom > frame.bottom + 8) found.push("plot " + name + ": " + text.textContent + " reaches out");
			if (box.height < 9) found.push("plot " + name + ": " + text.textContent + " is " + box.height + " px high");
			for (const other of texts.slice(0, i)) {
				const o = other.getBoundingClientRect(), across = Math.min(box.right, o.right) - Math.max(box.left, o.left), down = Math.min(box.bottom, o.bottom) - Math.max(box.top, o.top);
				if (across > 1 && down > box.height / 4) found.push("plot " + name + ": " + text.textContent + " overlaps " + other.textContent);
			}
		}
	}
	return found;
})()`

// plotsOf is how many plots a readout has.
var plotsOf = map[string]int{"users": 5, "communities": 5, "requests": 3, "users, early": 4, "users, at start": 3, "users, before": 0}

func TestPageFitsEveryScreen(t *testing.T) {
	pages := make(map[string][]byte)
	for name, r := range fixtures(t) {
		pages["/"+strings.ReplaceAll(name, " ", "_")] = write(t, report.HTML, r)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		page, found := pages[r.URL.Path]
		if !found {
			t.Errorf("the page has asked for %s", r.URL)
		}
		_, _ = w.Write(page)
	}))
	defer server.Close()
	browser := browsertest.Open(t)
	backgrounds := make(map[bool]map[string]bool)
	for name, plots := range plotsOf {
		for _, view := range browsertest.Views {
			path := strings.ReplaceAll(name, " ", "_")
			t.Run(name+"/"+view.String(), func(t *testing.T) {
				tab := browser.Tab(t, view)
				tab.Open(server.URL + "/" + path)
				tab.Screenshot(path + "-" + view.String())
				if name == "users" { // verdict, tiles, effect and goal fit on two screens, even of a phone
					if end := browsertest.Evaluate[float64](tab, `document.querySelector(".metrics tbody tr").getBoundingClientRect().bottom`); end > 2*844 {
						t.Errorf("what decides ends at %.0f px: expected two screens, %d", end, 2*844)
					}
				}
				const screen = 800
				for _, part := range []string{".advice .sentence", ".advice .do", ".tiles"} {
					if end, details := tab.Ends(part), tab.Begins("details"); end > 2*screen || end > details || end == 0 && part != ".tiles" {
						t.Errorf("%s ends at %.0f px, and details begin at %.0f px: expected it before them and within two screens of %d px", part, end, details, screen)
					}
				}
				if words := `document.querySelector("header").textContent`; name == "users" { // the page begins with what the experiment is about
					tab.Until("hypothesis and owner are in the header", words+`.includes("Who gets answers") && `+words+`.includes("the timeline team")`)
				}
				browsertest.Evaluate[bool](tab, `document.querySelectorAll("details").forEach(d => { d.open = true }) || true`)
				problems := append(browsertest.Evaluate[[]string](tab, look), tab.Layout()...)
				for _, problem := range append(problems, tab.Complaints()...) {
					t.Error(problem)
				}
				if drawn := browsertest.Evaluate[int](tab, `document.querySelectorAll("svg[role=img]").length`); drawn != plots {
					t.Errorf("%d plots, want %d", drawn, plots)
				}
				if backgrounds[view.Dark] == nil {
					backgrounds[view.Dark] = make(map[string]bool)
				}
				backgrounds[view.Dark][browsertest.Evaluate[string](tab, `getComputedStyle(document.body).backgroundColor`)] = true
			})
		}
	}
	for colour := range backgrounds[true] {
		if backgrounds[false][colour] {
			t.Errorf("the background is %s in both colour schemes", colour)
		}
	}
}

// The checks of the page's layout must find these faults.
func TestPageLayoutCheckFindsFaults(t *testing.T) {
	page := []byte(`<!DOCTYPE html><meta name="viewport" content="width=device-width"><p style="width:9000px">wide</p><div style="width:10px;overflow:hidden;white-space:nowrap">cut off</div>
		<svg role="img" aria-label="x" viewBox="0 0 300 200" style="width:300px"><text x="290" y="20">reaches</text><text x="20" y="60">upon</text><text x="24" y="62">another</text></svg><script>console.error("woe"); undefined.x</script>`)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(page) }))
	defer server.Close()
	tab := browsertest.Open(t).Tab(t, browsertest.View{Width: 390})
	tab.Open(server.URL)
	problems := strings.Join(append(browsertest.Evaluate[[]string](tab, look), tab.Layout()...), "\n")
	for _, want := range []string{"px wide", "is cut off: cut off", "plot x: 0 lines", "reaches out", "another overlaps upon"} {
		if !strings.Contains(problems, want) {
			t.Errorf("no %q in:\n%s", want, problems)
		}
	}
	for _, want := range []string{"console: ", "exception: "} { // a busy machine may report these a moment later
		for deadline := time.Now().Add(time.Minute); !strings.Contains(strings.Join(tab.Complaints(), "\n"), want); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("no %q in:\n%s", want, tab.Complaints())
			}
		}
	}
}
