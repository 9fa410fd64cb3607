package report

import (
	_ "embed"
	"html/template"
	"io"

	"warble/shared/readout"
)

//go:embed page.html
var pageText string

var page = template.Must(template.New("page").Funcs(template.FuncMap{"plain": plain}).Parse(pageText))

// HTML writes a readout as one file that loads nothing: readable on a phone, on paper and in the dark.
func HTML(w io.Writer, r readout.Report) error {
	drawn, err := plots(&r)
	if err != nil {
		return err
	}
	type effects struct {
		P       string
		Effects []row
	}
	data := struct {
		*readout.Report
		When      string
		Summary   []row
		Figures   []figure
		Interval  string
		Measured  []effects
		Latencies []row
		Members   []row
		Parts     []row
		PartsNote string
		Events    []row
	}{Report: &r, When: minute(r.At), Summary: summary(&r), Figures: drawn, Interval: confidence(&r), Members: groupRows(&r)}
	if r.Primary != nil {
		data.Measured = append(data.Measured, effects{"p", []row{noted(r.Primary)}})
	}
	if len(r.Secondary) > 0 {
		rows := effects{P: "Holm p"}
		for i := range r.Secondary {
			rows.Effects = append(rows.Effects, noted(&r.Secondary[i]))
		}
		data.Measured = append(data.Measured, rows)
	}
	if r.Latency != nil {
		data.Latencies = latencyRows(r.Latency)
	}
	if len(r.Splits) > 0 {
		data.Parts, data.PartsNote = splitRows(&r), splitNote(&r)
	}
	for _, h := range r.History {
		data.Events = append(data.Events, row{minute(h.At), string(h.Phase), h.Actor, h.Reason})
	}
	return page.Execute(w, data)
}

func noted(e *readout.Effect) row {
	notes := ""
	for i, n := range effectNotes(e) {
		if i > 0 {
			notes += "; "
		}
		notes += n
	}
	return append(effectRow(e), notes)
}
