//go:build e2e

package web_test

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"warble/shared/browsertest"
)

// small is the size of a view that is readable in a README.
var small = browsertest.View{Width: 1120}

// TestPictures makes the README's pictures: the playground with a person in each arm, and the board with a verdict about synthetic
// people with a planted effect, as in make demo. SCREENSHOTS is the folder of the pictures.
func TestPictures(t *testing.T) {
	if os.Getenv("SCREENSHOTS") == "" {
		t.Fatal("SCREENSHOTS is not set: expected the folder of the pictures, as make pictures sets it")
	}
	w := start(t, "none")
	load := program(t, "load")
	people := func(flags ...string) error {
		cmd := exec.CommandContext(t.Context(), load, append([]string{"-url", w.url, "-users", "600", "-seed", "1", "-experiment", w.experiment, "-state", load + ".json"}, flags...)...)
		cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
		return cmd.Run()
	}
	// They register before the experiment starts, because its time is short.
	_ = people("-for", "1s", "-rate", "1", "-max-errors", "1") // whether anybody did anything in the second does not matter
	begin := exec.CommandContext(t.Context(), w.kn, "start", "-f", "../../"+experimentFile, "--anyway")
	begin.Env = w.environment()
	if text, err := begin.CombinedOutput(); err != nil {
		t.Fatalf("start: %v\n%s", err, text)
	}
	pictureOfTwo(t, w) // while the timeline is theirs alone
	if err := people("-for", "5m30s", "-rate", "50", "-effect", "+1.0"); err != nil {
		t.Fatalf("load: %v", err)
	}
	tab := browsertest.Open(t).Tab(t, small)
	tab.Open(startBoard(t, w).url + "/experiments/" + w.experiment)
	tab.Within(2*time.Minute, "a win", `/^Win/.test(document.querySelector(".sentence")?.textContent)`)
	tab.Picture("board", 1120, 1000)
}

// pictureOfTwo takes a picture of the playground with a person in each arm.
func pictureOfTwo(t *testing.T, w *warble) {
	t.Helper()
	browser := browsertest.Open(t)
	// The first two people may be in the same arm. Then a new tab with new people is opened.
	for range mostPeople {
		two := browser.Tab(t, small)
		two.Open(w.url + "/")
		two.Until("the page knows the communities", `document.querySelectorAll("select[name=community] option").length > 1`)
		for n := 1; n <= 2; n++ {
			two.Click("#add")
			two.Until("another person has an arm", fmt.Sprintf(`document.querySelectorAll(".arm").length === %d && [...document.querySelectorAll(".arm")].every(a => a.textContent in {control: 1, treatment: 1})`, n))
		}
		if !browsertest.Evaluate[bool](two, card(control)+" != null && "+card(treatment)+" != null") {
			continue
		}
		for _, said := range [][2]string{{control, "can a timeline think?"}, {treatment, "nanoseconds are 11.8 inches long"}, {control, "hello, warble"}} {
			browsertest.Evaluate[bool](two, card(said[0])+`.querySelector("textarea").focus() || true`)
			two.Press(said[1])
			browsertest.Evaluate[bool](two, card(said[0])+`.querySelector("form").requestSubmit() || true`)
			for _, arm := range []string{control, treatment} {
				two.Until(said[1]+" is there for "+arm, fmt.Sprintf(`[...%s.querySelectorAll(".tweet p")].some(p => p.textContent === %q)`, card(arm), said[1]))
			}
		}
		for n := range 2 {
			like := fmt.Sprintf(`%s.querySelectorAll("[aria-label^=Like]")[%d]`, card(treatment), n)
			browsertest.Evaluate[bool](two, like+".click() || true")
			two.Until("the like counts", like+`.textContent.includes("♥ 1")`)
		}
		two.Picture("playground", 1120, 860)
		return
	}
	t.Fatalf("%d times two people are all in one arm", mostPeople)
}
