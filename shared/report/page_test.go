//go:build e2e

package report_test

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"warble/shared/report"
)

// look is what a script in the page finds: text that is cut off, or reaches out of the page or its plot, and plots in
// which nothing is drawn.
const look = `(() => {
	const found = [], wide = document.documentElement.clientWidth;
	if (document.documentElement.scrollWidth > wide) found.push("the page is " + document.documentElement.scrollWidth + " px wide, of " + wide);
	for (const e of document.querySelectorAll("body *:not(svg *)")) {
		const box = e.getBoundingClientRect();
		if (box.width > 0 && (box.left < -1 || box.right > wide + 1)) found.push(e.tagName + " reaches out of the page: " + e.textContent.slice(0, 60));
		if (e.tagName != "svg" && e.clientWidth > 0 && e.scrollWidth > e.clientWidth + 1) found.push(e.tagName + " is cut off: " + e.textContent.slice(0, 60));
	}
	for (const svg of document.querySelectorAll("svg")) {
		const name = svg.getAttribute("aria-label"), frame = svg.getBoundingClientRect();
		let drawn = 0;
		for (const path of svg.querySelectorAll("path")) {
			const box = path.getBoundingClientRect(), style = getComputedStyle(path);
			if (box.width + box.height > 0 && (style.stroke != "none" || style.fill != "none")) drawn++;
		}
		if (frame.width < 200 || drawn < 5) found.push("plot " + name + ": " + drawn + " lines in " + frame.width + " px");
		for (const text of svg.querySelectorAll("text")) {
			const box = text.getBoundingClientRect();
			if (box.left < frame.left - 8 || box.right > Math.min(wide, frame.right + 8) || box.top < frame.top - 8 || box.bottom > frame.bottom + 8) found.push("plot " + name + ": " + text.textContent + " reaches out");
			if (box.height < 9) found.push("plot " + name + ": " + text.textContent + " is " + box.height + " px high");
		}
	}
	return found;
})()`

// plotsOf is how many plots a readout has.
var plotsOf = map[string]int{"users": 5, "communities": 5, "requests": 3, "users, early": 4, "users, at start": 3, "users, before": 0}

func TestPage(t *testing.T) {
	pages := make(map[string][]byte)
	for name, r := range worlds(t) {
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
	browser := openBrowser(t)
	for name, plots := range plotsOf {
		for _, view := range []struct {
			wide int64
			dark bool
		}{{390, false}, {390, true}, {1280, false}, {1280, true}} {
			scheme := "light"
			if view.dark {
				scheme = "dark"
			}
			path := strings.ReplaceAll(name, " ", "_")
			t.Run(name+"/"+scheme+"/"+strconv.FormatInt(view.wide, 10), func(t *testing.T) {
				tab, cancel := chromedp.NewContext(browser)
				defer cancel()
				complaints := listen(t, tab)
				if _, err := chromedp.Call(tab, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
					Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
				}); err != nil {
					t.Fatal(err)
				}
				if err := chromedp.Do(tab, chromedp.EmulateViewport(view.wide, 844), chromedp.Navigate(server.URL+"/"+path)); err != nil {
					t.Fatal(err)
				}
				problems := evaluate[[]string](t, tab, look)
				drawn := evaluate[int](t, tab, `document.querySelectorAll("svg").length`)
				background := evaluate[string](t, tab, `getComputedStyle(document.body).backgroundColor`)
				for _, problem := range append(problems, complaints()...) {
					t.Error(problem)
				}
				if drawn != plots {
					t.Errorf("%d plots, want %d", drawn, plots)
				}
				if dark := background != "rgb(255, 255, 255)"; dark != view.dark {
					t.Errorf("background %s in a %s scheme", background, scheme)
				}
				if folder := os.Getenv("SCREENSHOTS"); folder != "" {
					picture, err := chromedp.Run(tab, chromedp.FullScreenshot(100))
					if err != nil {
						t.Fatal(err)
					}
					if err := os.MkdirAll(folder, 0o755); err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(filepath.Join(folder, path+"-"+scheme+"-"+strconv.FormatInt(view.wide, 10)+".png"), picture, 0o644); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
}

// TestPageLooks: what the page is looked at by must find what is wrong.
func TestPageLooks(t *testing.T) {
	page := []byte(`<!DOCTYPE html><meta name="viewport" content="width=device-width"><p style="width:9000px">wide</p><div style="width:10px;overflow:hidden;white-space:nowrap">cut off</div>
		<svg aria-label="x" viewBox="0 0 300 200" style="width:300px"><text x="290" y="20">reaches</text></svg><script>console.error("woe"); undefined.x</script>`)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(page) }))
	defer server.Close()
	tab, cancel := chromedp.NewContext(openBrowser(t))
	defer cancel()
	complaints := listen(t, tab)
	if err := chromedp.Do(tab, chromedp.EmulateViewport(390, 844), chromedp.Navigate(server.URL)); err != nil {
		t.Fatal(err)
	}
	problems := strings.Join(evaluate[[]string](t, tab, look), "\n")
	for _, want := range []string{"px wide", "is cut off: cut off", "plot x: 0 lines", "reaches out"} {
		if !strings.Contains(problems, want) {
			t.Errorf("no %q in:\n%s", want, problems)
		}
	}
	for _, want := range []string{"console: ", "exception: "} { // of which a busy machine may tell a moment later
		for deadline := time.Now().Add(time.Minute); !strings.Contains(strings.Join(complaints(), "\n"), want); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("no %q in:\n%s", want, complaints())
			}
		}
	}
}

func openBrowser(t *testing.T) context.Context {
	t.Helper()
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]), chromedp.NoSandbox) // which refuses root
	if path := os.Getenv("CHROMIUM"); path != "" {
		options = append(options, chromedp.ExecPath(path))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	ctx, end := chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(end)
	ctx, shut := chromedp.NewContext(ctx)
	t.Cleanup(shut)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("no browser (install chromium, or set CHROMIUM): %v", err)
	}
	return ctx
}

func evaluate[T any](t *testing.T, tab context.Context, script string) T {
	t.Helper()
	value, err := chromedp.Run(tab, chromedp.Evaluate[T](script))
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// listen returns a function that tells what a tab has complained of so far.
func listen(t *testing.T, tab context.Context) func() []string {
	t.Helper()
	var mu sync.Mutex
	var complaints []string
	err := chromedp.Listen(tab, func(event any) {
		mu.Lock()
		defer mu.Unlock()
		switch e := event.(type) {
		case *log.EventEntryAdded:
			complaints = append(complaints, "log: "+e.Entry.Text)
		case *runtime.EventConsoleAPICalled:
			var words bytes.Buffer
			for _, a := range e.Args {
				words.Write(a.Value)
			}
			complaints = append(complaints, "console: "+words.String())
		case *runtime.EventExceptionThrown:
			complaints = append(complaints, "exception: "+e.ExceptionDetails.Text)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return complaints
	}
}
