package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"warble/shared/experiment"
	"warble/shared/figures"
	"warble/shared/knative"
	"warble/shared/problem"
	"warble/shared/readout"
	"warble/shared/report"
	"warble/shared/rollout"
	"warble/shared/store"
)

const (
	// defaultBoard is the default address of the board.
	defaultBoard = "127.0.0.1:8070"
	// boardPoll is the time between two checks whether an experiment has changed. Figures change with every request, so an open page
	// also reads them again after boardFigures.
	boardPoll, boardFigures = time.Second, 10 * time.Second
)

//go:embed dashboard
var boardFiles embed.FS

var boardPages = template.Must(template.Must(template.ParseFS(boardFiles, "dashboard/*.html")).New("head").Parse(report.Head))

func (s *settings) dashboard() *cobra.Command {
	var listen string
	c := &cobra.Command{
		Use: "dashboard", Short: "Show the experiments in a browser, on this machine only", Args: noArgs,
		Long: `Serve a board for a browser. It lists all experiments with their phase and
health, and shows the live report of each. Buttons do what the verbs do, with
your rights and your name.

The board listens only on loopback. It shows the readout from DATABASE_URL, or
only the status of the resource if DATABASE_URL is not set.`,
		Example: "  kn experiment dashboard --listen 127.0.0.1:8071",
		RunE: func(c *cobra.Command, _ []string) error {
			if !loopback(listen) {
				return exit(misused, "--listen %s: expected a loopback address such as %s, because everyone who can reach the board has your rights", listen, defaultBoard)
			}
			cluster, err := s.cluster("")
			if err != nil {
				return err
			}
			b := &board{settings: s, cluster: cluster, token: rand.Text()}
			switch db, err := s.database(); {
			case err == nil:
				b.db = db
				defer db.Close()
			case !errors.Is(err, errNoDatabase):
				return err
			}
			listener, err := net.Listen("tcp", listen)
			if err != nil {
				return exit(failed, "%w: choose another --listen", err)
			}
			c.Printf("the board is at http://%s\n", listener.Addr())
			// WriteTimeout is not set, because the stream of events lasts as long as the page is open.
			server := &http.Server{Handler: b.handler(), ReadHeaderTimeout: 10 * time.Second, BaseContext: func(net.Listener) context.Context { return c.Context() }}
			context.AfterFunc(c.Context(), func() { _ = server.Close() }) // steer continues what a button has asked for
			if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		},
	}
	c.Flags().StringVar(&listen, "listen", defaultBoard, "loopback address of the board")
	return c
}

// loopback reports whether an address, with or without a port, is on this machine's loopback interface.
func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// board serves pages that show experiments and run the verbs of kn experiment.
type board struct {
	settings *settings
	cluster  *knative.Cluster
	db       *store.DB // nil without DATABASE_URL
	token    string    // in each page; a request without it changes nothing
}

// handler refuses requests that do not come from the board's own pages. A Host other than loopback means that somebody else's name was
// resolved to this machine (DNS rebinding). Another origin means another page of the same browser.
func (b *board) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", b.list)
	mux.HandleFunc("GET /experiments/{name}", b.one)
	mux.HandleFunc("POST /experiments/{name}/{verb}", b.act)
	mux.HandleFunc("GET /events", b.events)
	mux.HandleFunc("GET /assets/report.css", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/css; charset=utf-8")
		_, _ = io.WriteString(w, report.Style) // if this fails, the browser has gone
	})
	for file, kind := range map[string]string{"board.css": "text/css", "board.js": "text/javascript"} {
		mux.HandleFunc("GET /assets/"+file, func(w http.ResponseWriter, _ *http.Request) {
			text, _ := boardFiles.ReadFile("dashboard/" + file) // embedded, so reading cannot fail
			w.Header().Set("Content-Type", kind+"; charset=utf-8")
			_, _ = w.Write(text)
		})
	}
	protected := http.NewCrossOriginProtection().Handler(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !loopback(r.Host) {
			http.Error(w, fmt.Sprintf("the Host is %q: expected a loopback address such as %s", r.Host, defaultBoard), http.StatusForbidden)
			return
		}
		h := w.Header()
		// 'unsafe-inline', because plots have inline styles.
		h.Set("Content-Security-Policy", "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		protected.ServeHTTP(w, r)
	})
}

func (b *board) page(w http.ResponseWriter, status int, title, name string, body []byte) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_ = boardPages.ExecuteTemplate(w, "page.html", map[string]any{ // if this fails, the browser has gone
		"Title": title, "Name": name, "Token": b.token, "Namespace": b.cluster.NamespaceName(), "Body": template.HTML(body), //nolint:gosec // written by templates, which escape
	})
}

type boardPill struct{ Words, Class string }

// boardRow is one experiment of the list.
type boardRow struct {
	Name, Title, Services, Phase, Message, Exposed, Lift, Age string
	Span                                                      template.HTML // the lift, drawn
	Pills                                                     []boardPill
}

func (b *board) list(w http.ResponseWriter, r *http.Request) {
	experiments, err := b.cluster.Experiments(r.Context())
	var data struct {
		Problem     string
		Experiments []boardRow
		Drawn       bool
	}
	status := http.StatusOK
	if err != nil {
		data.Problem, status = "The experiments cannot be read: "+err.Error(), http.StatusBadGateway
	}
	slices.SortStableFunc(experiments, func(a, b rollout.Experiment) int { return b.CreationTimestamp.Compare(a.CreationTimestamp.Time) })
	exposed, err := b.exposed(r.Context())
	if err != nil {
		data.Problem = strings.TrimSpace(data.Problem + " " + unread("The numbers of exposed units", err))
	}
	var lifts []*readout.Lift
	for i := range experiments {
		e := &experiments[i]
		var lift *readout.Lift
		if l, ok := readout.ParseLift(e.Status.Lift); ok {
			lift, data.Drawn = &l, true
		}
		lifts = append(lifts, lift)
		people := "–"
		if n := exposed[e.Name]; n != (experiment.Counts{}) {
			people = figures.Count(n.Control+n.Treatment, e.Spec.Identity.Person())
		}
		data.Experiments = append(data.Experiments, boardRow{
			Exposed: people,
			Name:    e.Name, Title: titleOf(e), Services: strings.Join(e.Spec.Services, ", "), Phase: e.Describe(), Message: waits(e),
			Lift: orDash(e.Status.Lift), Age: age(e.CreationTimestamp), Pills: pillsOf(e),
		})
	}
	for i, span := range report.Spans(lifts) {
		data.Experiments[i].Span = span
	}
	var body bytes.Buffer
	if err := boardPages.ExecuteTemplate(&body, "list.html", data); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	b.page(w, status, "Experiments", "", body.Bytes())
}

// unread says why figures of the database are not shown. An open page asks again by itself.
func unread(figures string, err error) string {
	if errors.Is(err, problem.Unavailable) {
		return fmt.Sprintf("The database does not answer, so this page is incomplete. It tries again by itself. %s cannot be read: %v.", figures, err)
	}
	return fmt.Sprintf("%s cannot be read: %v.", figures, err)
}

// exposed counts the users and visitors who were exposed to each experiment, by arm. The result is empty without a database.
func (b *board) exposed(ctx context.Context) (map[string]experiment.Counts, error) {
	if b.db == nil {
		return nil, nil //nolint:nilnil // an empty map is the answer
	}
	return b.db.Exposed(ctx)
}

func titleOf(e *rollout.Experiment) string {
	if e.Spec.Title != "" {
		return e.Spec.Title
	}
	return e.Name
}

// waits returns what an experiment waits for, or why it ended.
func waits(e *rollout.Experiment) string {
	if e.Status.Message == "" || e.Status.Phase == experiment.Concluded {
		return e.Status.Message
	}
	return "waits for " + e.Status.Message
}

func orDash(text string) string {
	if text == "" {
		return "–"
	}
	return text
}

// age returns the time since at in its largest unit, such as "3 days".
func age(at metav1.Time) string {
	if at.IsZero() {
		return "–"
	}
	switch d := time.Since(at.Time); {
	case d >= 48*time.Hour:
		return figures.Count(int64(d.Hours()/24), "day")
	case d >= 2*time.Hour:
		return figures.Count(int64(d.Hours()), "hour")
	case d < time.Minute:
		return "now"
	default:
		return figures.Count(int64(d.Minutes()), "minute")
	}
}

// pillsOf returns the health and the guardrails as steer last wrote them into the status.
func pillsOf(e *rollout.Experiment) (all []boardPill) {
	for _, c := range []struct{ condition, good, bad string }{{"Healthy", "Health good", "Health red"}, {"GuardrailsPassing", "Guardrails pass", "Guardrails"}} {
		switch found := condition(e, c.condition); {
		case found == nil:
		case found.Status == metav1.ConditionTrue:
			all = append(all, boardPill{c.good, "good"})
		case c.condition == "GuardrailsPassing" && !strings.EqualFold(found.Reason, string(experiment.GuardBreach)):
			all = append(all, boardPill{c.bad + " not decided yet", "open"})
		case c.condition == "GuardrailsPassing":
			all = append(all, boardPill{"Guardrail breached", "bad"})
		default:
			all = append(all, boardPill{c.bad, "bad"})
		}
	}
	if _, reason := e.Stalled(); reason != "" { // the list shows the message beside the phase
		all = append(all, boardPill{"Waits for you", "bad"})
	}
	return all
}

func (b *board) one(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	e, err := b.cluster.Experiment(r.Context(), name)
	if err != nil {
		status := http.StatusBadGateway
		if errors.Is(err, rollout.ErrNotFound) {
			status = http.StatusNotFound
		}
		text := template.HTMLEscapeString(explainNotFound(err, name, b.cluster.NamespaceName()).Error())
		b.page(w, status, name, name, []byte(`<p class="card" role="alert">`+text+"</p>"))
		return
	}
	read := b.read(r.Context(), e)
	var body bytes.Buffer
	if err := report.Body(&body, read, buttons(e, read.Next.Do)); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	b.page(w, http.StatusOK, titleOf(e), name, body.Bytes())
}

// read returns the readout of an experiment. It returns what the status says if there is no readout: before the start, without
// DATABASE_URL, or if the database has another experiment of that name.
func (b *board) read(ctx context.Context, e *rollout.Experiment) readout.Report {
	why := "DATABASE_URL is not set, so the figures are not shown."
	var next readout.Next
	if b.db != nil {
		read, err := readout.Read(ctx, b.db, e.Name, time.Now())
		switch {
		case err == nil && read.Salt == e.Status.Assign.Salt:
			read.Phase = e.Status.Phase // steer writes the status before the database
			return read
		case err == nil, errors.Is(err, problem.NotFound):
			why = ""
		default:
			why = unread("The figures", err)
			next = readout.Next{Do: readout.Wait, Why: "a verdict needs the figures"}
		}
	}
	bare := readout.Report{Experiment: e.Name, At: time.Now(), Spec: e.Spec, Phase: e.Status.Phase, Verdict: readout.Waiting, Units: readout.Units{Kind: e.Spec.Unit}, Next: next}
	bare.Sentence = strings.TrimSpace(fmt.Sprintf("It is %s. %s", e.Describe(), why))
	switch {
	case e.Status.Phase == "" || e.Status.Phase == experiment.Draft:
		bare.Next = readout.Next{Do: readout.Start, Why: "it has not been started", Command: "kn experiment start " + e.Name}
	case e.Status.Message != "":
		bare.Next = readout.Next{Do: readout.Wait, Why: e.Status.Message}
	}
	return bare
}

// buttons returns the verbs that are possible in the experiment's phase. The verb that the readout advises comes first.
func buttons(e *rollout.Experiment, next readout.Action) (all []report.Button) {
	add := func(verb, label, says, class string, final bool) {
		all = append(all, report.Button{Verb: verb, Label: label, Says: says, Class: class, Final: final})
	}
	promote := func(class string) {
		add("promote", "Promote to everyone…", "Everyone gets the treatment, in stages, and the experiment ends. This takes a few minutes.", class, true)
	}
	rollback := func() {
		add("rollback", "Roll back…", "Everyone goes back to the version without the change within 2 seconds. The experiment ends, and records that the treatment lost.", "bad", true)
	}
	stop := func(class string) {
		add("stop", "Stop…", "Everyone goes back to the version without the change within 2 seconds. The experiment ends, and records no winner.", class, true)
	}
	more := e.Status.Step+1 < len(e.Spec.Ramp.Steps)
	switch e.Status.Phase {
	case "", experiment.Draft:
		add("start", "Start…", "Both arms are made. When each arm has answered, the first "+figures.Plural(e.Spec.Noun())+" enter the experiment.", "go", false)
	case experiment.Warming, experiment.Promoting:
		rollback()
	case experiment.Running:
		adviseStop := next == readout.Fix || next == readout.Decide
		if next == readout.Promote {
			promote("go")
		}
		if adviseStop {
			stop("bad")
		}
		if e.Spec.Ramp.Approve == "manual" && more {
			add("approve", "Approve the next step…", "The next step is made as soon as the hold is over.", "", false)
		}
		if more {
			add("step", "Next step now…", fmt.Sprintf("The ramp goes to %d%% in each arm now, even if the hold is not over.", e.Spec.Ramp.Steps[e.Status.Step+1]), "", false)
		}
		add("pause", "Pause…", "No further step and no promotion. Everyone keeps their arm.", "", false)
		if next != readout.Promote {
			promote("")
		}
		rollback()
		if !adviseStop {
			stop("")
		}
	case experiment.Paused:
		add("resume", "Resume…", "The ramp continues.", "go", false)
		rollback()
		stop("")
	}
	return all
}

// act runs a verb, and sends each line that the verb prints immediately.
func (b *board) act(w http.ResponseWriter, r *http.Request) {
	name, verb := r.PathValue("name"), r.PathValue("verb")
	if subtle.ConstantTimeCompare([]byte(r.Header.Get("X-Board-Token")), []byte(b.token)) != 1 {
		http.Error(w, "X-Board-Token is not the token of this board: reload the page", http.StatusForbidden)
		return
	}
	var asked struct{ Why, Confirm string }
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 16<<10)).Decode(&asked); err != nil {
		http.Error(w, "the body: expected {why, confirm}: "+err.Error(), http.StatusBadRequest)
		return
	}
	e, err := b.cluster.Experiment(r.Context(), name)
	if err != nil {
		http.Error(w, explainNotFound(err, name, b.cluster.NamespaceName()).Error(), http.StatusBadGateway)
		return
	}
	able := buttons(e, "")
	i := slices.IndexFunc(able, func(a report.Button) bool { return a.Verb == verb })
	switch {
	case i < 0:
		http.Error(w, fmt.Sprintf("%s is %s: %s is not possible now", name, e.Describe(), verb), http.StatusConflict)
		return
	case strings.TrimSpace(asked.Why) == "":
		http.Error(w, "why: expected a reason", http.StatusUnprocessableEntity)
		return
	case able[i].Final && asked.Confirm != name:
		http.Error(w, fmt.Sprintf("the name is %q: expected %s, because this cannot be undone", asked.Confirm, name), http.StatusUnprocessableEntity)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	out := &flushing{w, http.NewResponseController(w)}
	s := *b.settings
	args := []string{verb, name, "--message", asked.Why, "--namespace", b.cluster.NamespaceName(), "--by", s.by}
	for flag, value := range map[string]string{"--kubeconfig": s.File, "--context": s.Context, "--as": s.As} {
		if value != "" {
			args = append(args, flag, value)
		}
	}
	if s.run(r.Context(), args, out, out) == 0 {
		fmt.Fprintln(out, "Done.")
	}
}

// flushing is a response that sends each write immediately.
type flushing struct {
	http.ResponseWriter

	connection *http.ResponseController
}

func (f *flushing) Write(p []byte) (int, error) {
	n, err := f.ResponseWriter.Write(p)
	return n, errors.Join(err, f.connection.Flush())
}

// events tells an open page to load its content again, if an experiment has changed and every boardFigures, until the page is closed.
func (b *board) events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	out := &flushing{w, http.NewResponseController(w)}
	fmt.Fprint(out, "retry: 1000\n\n")
	before, updated := "", time.Now()
	for {
		now := b.versions(r.Context())
		if now != before || time.Since(updated) > boardFigures {
			if before != "" {
				if _, err := fmt.Fprint(out, "event: changed\ndata:\n\n"); err != nil {
					return
				}
			}
			before, updated = now, time.Now()
		}
		select {
		case <-r.Context().Done():
			return
		case <-time.After(boardPoll):
		}
	}
}

// versions returns a text that changes if an experiment changes, or if the experiments can no longer be read.
func (b *board) versions(ctx context.Context) string {
	var text strings.Builder
	experiments, err := b.cluster.Experiments(ctx)
	for i := range experiments {
		fmt.Fprintln(&text, experiments[i].Name, experiments[i].ResourceVersion)
	}
	if err != nil {
		text.WriteString(err.Error())
	}
	return text.String()
}
