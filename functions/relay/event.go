package main

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/cloudevents/sdk-go/v2/event"

	"warble/shared/store"
)

const (
	// source and an event's id together are unique, because all ids come from one outbox.
	source = "urn:warble:outbox"
	// schemas is the prefix of the $id of a type's JSON schema. The schema is in the file schemas/<type>.json in this folder.
	schemas = "https://warble.dev/schemas/"
)

// cloudEvent converts a row of the outbox to a CloudEvent 1.0, with the extensions Partitioning and Distributed Tracing. It accepts
// unknown types, because a newer release may write them.
func cloudEvent(row store.Event) (event.Event, error) {
	e := event.New()
	e.SetID(strconv.FormatInt(row.ID, 10))
	e.SetSource(source)
	e.SetType(row.Type)
	e.SetTime(row.CreatedAt)
	e.SetDataSchema(schemas + row.Type + ".json")
	e.SetExtension("partitionkey", strconv.FormatInt(row.UserID, 10))
	if row.Traceparent != "" {
		e.SetExtension("traceparent", row.Traceparent)
	}
	var about struct {
		ID         string `json:"id"`
		Phase      string `json:"phase"` // of an experiment, like Conclusion: Triggers can filter only by attributes
		Conclusion string `json:"conclusion"`
	}
	if err := json.Unmarshal(row.Data, &about); err != nil {
		return e, fmt.Errorf("data: %w", err)
	}
	if about.ID != "" {
		e.SetSubject(about.ID)
	}
	if about.Phase != "" {
		e.SetExtension("phase", about.Phase)
	}
	if about.Conclusion != "" {
		e.SetExtension("conclusion", about.Conclusion)
	}
	if err := e.SetData(event.ApplicationJSON, row.Data); err != nil {
		return e, err
	}
	e.DataBase64 = false // SetData assumes that bytes are not JSON
	return e, e.Validate()
}
