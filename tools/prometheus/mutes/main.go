// Command mutes says which alerts Alertmanager mutes because of the others that fire. It runs Alertmanager's own inhibitor: amtool tests only
// routes, and the server cannot be built from its Go module, which lacks the files of its web pages.
//
//	mutes CONFIG < alerts.json
//
// The input is an array of alerts, each an object of labels, which all fire. The output is an array of booleans in the same order.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/config"
	"github.com/prometheus/alertmanager/eventrecorder"
	"github.com/prometheus/alertmanager/inhibit"
	"github.com/prometheus/alertmanager/provider/mem"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintf(os.Stderr, "mutes: %d arguments: expected the file of a configuration\n", len(os.Args)-1)
		os.Exit(2)
	}
	if err := mutes(context.Background(), os.Args[1], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "mutes:", err)
		os.Exit(1)
	}
}

func mutes(ctx context.Context, file string, in io.Reader, out io.Writer) error {
	loaded, err := config.LoadFile(file)
	if err != nil {
		return err
	}
	var firing []model.LabelSet
	if err := json.NewDecoder(in).Decode(&firing); err != nil {
		return err
	}
	quiet, unrecorded := slog.New(slog.DiscardHandler), eventrecorder.NopRecorder()
	alerts, err := mem.NewAlerts(ctx, time.Hour, 0, nil, quiet, unrecorded, prometheus.NewRegistry(), nil)
	if err != nil {
		return err
	}
	defer alerts.Close()
	now := time.Now()
	for _, labels := range firing {
		fires := &alert.Alert{Alert: model.Alert{Labels: labels, StartsAt: now, EndsAt: now.Add(time.Hour)}, UpdatedAt: now}
		if err := alerts.Put(ctx, fires); err != nil {
			return fmt.Errorf("%s: %w", labels, err)
		}
	}
	inhibitor := inhibit.NewInhibitor(alerts, loaded.InhibitRules, quiet, unrecorded)
	go inhibitor.Run()
	defer inhibitor.Stop()
	inhibitor.WaitForLoading()
	muted := make([]bool, len(firing))
	for i, labels := range firing {
		muted[i] = inhibitor.Mutes(ctx, labels)
	}
	return json.NewEncoder(out).Encode(muted)
}
