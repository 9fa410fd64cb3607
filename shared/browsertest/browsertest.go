// Package browsertest lets tests open pages in a real browser: headless Chromium, which make chromium installs.
package browsertest

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

const (
	lifetime = 25 * time.Minute // of a browser
	patience = time.Minute      // for what a page does by itself; machines are shared
)

// Browser is one process of Chromium. Its tabs do not share any storage.
type Browser struct{ ctx context.Context }

// Open starts a browser that ends with the test. CHROMIUM names its program if it is not on PATH. at has pairs of a host and the address
// that the browser uses for it, for example of an ingress: "edge.example", "127.0.0.1:8081".
func Open(t *testing.T, at ...string) *Browser {
	t.Helper()
	var rules []string
	for i := 0; i+1 < len(at); i += 2 {
		rules = append(rules, "MAP "+at[i]+" "+at[i+1])
	}
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]), chromedp.NoSandbox) // which refuses root
	if len(rules) > 0 {
		options = append(options, chromedp.Flag("host-resolver-rules", strings.Join(rules, ",")))
	}
	if path := os.Getenv("CHROMIUM"); path != "" {
		options = append(options, chromedp.ExecPath(path))
	}
	ctx, cancel := context.WithTimeout(t.Context(), lifetime)
	t.Cleanup(cancel)
	ctx, end := chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(end)
	ctx, shut := chromedp.NewContext(ctx)
	t.Cleanup(shut)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("no browser (install chromium, or set CHROMIUM): %v", err)
	}
	return &Browser{ctx}
}

// View is the width of a page, in CSS pixels, and its colour scheme.
type View struct {
	Width int64
	Dark  bool
}

// Views are the views in which every page must be usable.
var Views = []View{{390, false}, {390, true}, {1280, false}, {1280, true}}

func (v View) String() string {
	scheme := "light"
	if v.Dark {
		scheme = "dark"
	}
	return fmt.Sprintf("%s-%d", scheme, v.Width)
}

// Tab is one page. Its methods end the test if the page does not do what they ask for.
type Tab struct {
	t   *testing.T
	ctx context.Context
	*record
}

// record has a page's console messages and requests.
type record struct {
	mu         sync.Mutex
	complaints []string
	requests   []string
}

// For returns the same page for a subtest.
func (tab *Tab) For(t *testing.T) *Tab { return &Tab{t, tab.ctx, tab.record} }

// Tab opens a tab that closes with the test.
func (b *Browser) Tab(t *testing.T, v View) *Tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(b.ctx)
	t.Cleanup(cancel)
	tab := &Tab{t, ctx, &record{}}
	if err := chromedp.Listen(ctx, tab.add); err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.Call(ctx, network.Enable, network.EnableParams{}); err != nil {
		t.Fatal(err)
	}
	tab.Look(v)
	return tab
}

// add records an event in the page's complaints and requests.
func (tab *Tab) add(event any) {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	switch e := event.(type) {
	case *log.EventEntryAdded:
		tab.complaints = append(tab.complaints, "log: "+e.Entry.Text+" "+e.Entry.URL)
	case *runtime.EventConsoleAPICalled:
		var words bytes.Buffer
		for _, a := range e.Args {
			words.Write(a.Value)
		}
		tab.complaints = append(tab.complaints, "console: "+words.String())
	case *runtime.EventExceptionThrown:
		text := e.ExceptionDetails.Text
		if e.ExceptionDetails.Exception != nil {
			text += " " + e.ExceptionDetails.Exception.Description
		}
		tab.complaints = append(tab.complaints, "exception: "+text)
	case *network.EventRequestWillBeSent:
		tab.requests = append(tab.requests, e.Request.URL)
	}
}

// Complaints returns the console's messages and the uncaught exceptions so far.
func (tab *Tab) Complaints() []string {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	return slices.Clone(tab.complaints)
}

// Requests returns the URLs that the page has requested so far.
func (tab *Tab) Requests() []string {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	return slices.Clone(tab.requests)
}

// Elsewhere returns the requests that went to another host than the page's own.
func (tab *Tab) Elsewhere(page string) (urls []string) {
	own, err := url.Parse(page)
	if err != nil {
		tab.t.Fatal(err)
	}
	for _, request := range tab.Requests() {
		if u, err := url.Parse(request); err != nil || u.Host != own.Host && u.Scheme != "data" {
			urls = append(urls, request)
		}
	}
	return urls
}

// Look sets the width and the colour scheme, and asks the page for reduced motion. Transitions that this starts are over when Look
// returns, also on pages that ignore reduced motion, so that the page stays as it is afterwards.
func (tab *Tab) Look(v View) {
	tab.t.Helper()
	scheme := "light"
	if v.Dark {
		scheme = "dark"
	}
	if _, err := chromedp.Call(tab.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}},
	}); err != nil {
		tab.t.Fatal(err)
	}
	tab.do(chromedp.EmulateViewport(v.Width, 844))
	Evaluate[any](tab, `document.getAnimations().filter(a => isFinite(a.effect.getComputedTiming().endTime)).forEach(a => a.finish())`)
}

func (tab *Tab) do(steps ...chromedp.Action[chromedp.Void]) {
	tab.t.Helper()
	if err := chromedp.Do(tab.ctx, steps...); err != nil {
		tab.t.Fatal(err)
	}
}

// Open goes to a page, and returns when it has loaded.
func (tab *Tab) Open(page string) { tab.t.Helper(); tab.do(chromedp.Navigate(page)) }

// Reload loads the page once more.
func (tab *Tab) Reload() { tab.t.Helper(); tab.do(chromedp.Reload()) }

// Click clicks the one element of a CSS selector, as a mouse does.
func (tab *Tab) Click(selector string) {
	tab.t.Helper()
	tab.Until("there is one "+selector+" to click", fmt.Sprintf(`document.querySelectorAll(%q).length == 1 && !document.querySelector(%[1]q).disabled`, selector))
	tab.do(chromedp.Click(selector))
}

// Press sends keys, by their names in github.com/chromedp/chromedp/kb, to the element with the focus.
func (tab *Tab) Press(keys string) { tab.t.Helper(); tab.do(chromedp.KeyEvent(keys)) }

// Paste inserts what was copied into the element with the focus.
func (tab *Tab) Paste() {
	tab.t.Helper()
	tab.do(chromedp.KeyEvent("v", chromedp.KeyModifiers(chromedp.ModifierCtrl), func(p *input.DispatchKeyEventParams) { p.Commands = []string{"paste"} }))
}

// Ends returns how far below the top of the page the lowest element of a CSS selector ends, in CSS pixels. Begins is its counterpart for
// the top of the highest element. Both are 0 if there is no such element.
func (tab *Tab) Ends(selector string) float64 {
	tab.t.Helper()
	return tab.edge(selector, "max", "bottom")
}

// Begins is described at Ends.
func (tab *Tab) Begins(selector string) float64 {
	tab.t.Helper()
	return tab.edge(selector, "min", "top")
}

func (tab *Tab) edge(selector, extreme, side string) float64 {
	tab.t.Helper()
	return Evaluate[float64](tab, fmt.Sprintf(`(all => all.length && Math.%s(...all.map(e => e.getBoundingClientRect().%s + scrollY)))([...document.querySelectorAll(%q)])`, extreme, side, selector))
}

// Evaluate runs a script in the page and returns its value. If the value is a promise, Evaluate waits for it.
func Evaluate[T any](tab *Tab, script string) T {
	tab.t.Helper()
	value, err := chromedp.Run(tab.ctx, chromedp.Evaluate[T](script, chromedp.EvalAwaitPromise))
	if err != nil {
		tab.t.Fatalf("%.200s: %v", script, err)
	}
	return value
}

// Until waits, for at most a minute, until a script's value is true.
func (tab *Tab) Until(what, script string) { tab.t.Helper(); tab.Within(patience, what, script) }

// Within is Until with another limit.
func (tab *Tab) Within(limit time.Duration, what, script string) {
	tab.t.Helper()
	for end := time.Now().Add(limit); !Evaluate[bool](tab, "Boolean("+script+")"); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			tab.t.Fatalf("not within %s: %s\nthe page says:\n%s\nand complains: %q", limit, what, Evaluate[string](tab, "document.body.innerText"), tab.Complaints())
		}
	}
}

// Layout returns faults of the page's layout: text that is cut off, or that extends beyond the page.
func (tab *Tab) Layout() []string {
	tab.t.Helper()
	return Evaluate[[]string](tab, `(() => {
		const found = [], wide = document.documentElement.clientWidth;
		if (document.documentElement.scrollWidth > wide) found.push("the page is " + document.documentElement.scrollWidth + " px wide, of " + wide);
		for (const e of document.querySelectorAll("body *:not(svg *)")) {
			const box = e.getBoundingClientRect();
			if (e.closest(".skip") || box.width == 0 || !e.checkVisibility()) continue; // not visible until it has the focus, or is unfolded
			if (box.left < -1 || box.right > wide + 1) found.push(e.tagName + " reaches out of the page: " + e.textContent.slice(0, 60));
			if (e.tagName != "svg" && e.clientWidth > 0 && e.scrollWidth > e.clientWidth + 1) found.push(e.tagName + " is cut off: " + e.textContent.slice(0, 60));
		}
		return found;
	})()`)
}

// Barriers returns the barriers to accessibility that axe-core finds in the page. make e2e-web installs axe-core.
func (tab *Tab) Barriers(axe string) []string {
	tab.t.Helper()
	program, err := os.ReadFile(axe)
	if err != nil {
		tab.t.Fatalf("axe-core: %v: expected what make e2e-web installs", err)
	}
	tab.do(func(ctx context.Context, target *chromedp.Target) (chromedp.Void, error) {
		_, err := chromedp.Evaluate[any](string(program)+";null", chromedp.EvalIgnoreExceptions)(ctx, target)
		return chromedp.Void{}, err
	})
	return Evaluate[[]string](tab, `axe.run().then(r => r.violations.flatMap(v => v.nodes.map(n => v.id + ": " + v.help + ": " + n.html + " " + n.failureSummary)))`)
}

// Screenshot saves the whole page as NAME.png in the folder SCREENSHOTS, if the environment has one.
func (tab *Tab) Screenshot(name string) {
	tab.t.Helper()
	tab.shoot(name, chromedp.FullScreenshot(100))
}

// Picture is Screenshot for the part of the page that a screen of some size shows. Nothing has the focus.
func (tab *Tab) Picture(name string, width, height int64) {
	tab.t.Helper()
	tab.do(chromedp.EmulateViewport(width, height))
	Evaluate[bool](tab, `(document.activeElement.blur(), scrollTo(0, 0), true)`)
	tab.shoot(name, chromedp.CaptureScreenshot())
}

func (tab *Tab) shoot(name string, take chromedp.Action[[]byte]) {
	tab.t.Helper()
	folder := os.Getenv("SCREENSHOTS")
	if folder == "" {
		return
	}
	picture, err := chromedp.Run(tab.ctx, take)
	if err != nil {
		tab.t.Fatal(err)
	}
	if err := os.MkdirAll(folder, 0o755); err != nil { //nolint:gosec // to be looked at
		tab.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, name+".png"), picture, 0o644); err != nil { //nolint:gosec // to be looked at
		tab.t.Fatal(err)
	}
}
