package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// state has the accounts for the next run, so that nobody has to register again. The keys are the URL and Host header of a Warble, and the
// username.
type state map[string]map[string]account

// readState reads a state file. If the file does not exist, the state is empty.
func readState(file string) (state, error) {
	s := make(state)
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err != nil {
		return nil, fmt.Errorf("-state %s: %w: expected a file that an earlier run wrote: delete it, or name another", file, err)
	}
	return s, nil
}

// accounts returns the accounts at one Warble, never nil.
func (s state) accounts(c *client) map[string]account {
	key := c.base + " " + c.host
	if s[key] == nil {
		s[key] = make(map[string]account)
	}
	return s[key]
}

// write replaces the file atomically. Only the owner may read it, because it has tokens.
func (s state) write(file string) error {
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o711); err != nil {
		return fmt.Errorf("-state: %w", err)
	}
	temporary, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*")
	if err != nil {
		return fmt.Errorf("-state: %w", err)
	}
	defer os.Remove(temporary.Name()) //nolint:errcheck // after a success there is nothing to remove
	_, err = temporary.Write(text)
	if err := errors.Join(err, temporary.Close()); err != nil {
		return fmt.Errorf("-state: %w", err)
	}
	return os.Rename(temporary.Name(), file)
}
