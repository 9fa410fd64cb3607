package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// state is what a run leaves for the next one, so that nobody has to register again: accounts by their usernames, of each
// Warble by its URL and Host header.
type state map[string]map[string]account

// readState reads a file that may not be there yet.
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
		return nil, fmt.Errorf("-state %s: %w: expected a file that an earlier run wrote, or none", file, err)
	}
	return s, nil
}

// of are the accounts at one Warble, never nil.
func (s state) of(c *client) map[string]account {
	key := c.base + " " + c.host
	if s[key] == nil {
		s[key] = make(map[string]account)
	}
	return s[key]
}

// write replaces the file, whole or not at all. It holds tokens, so it is its owner's alone.
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
	defer os.Remove(temporary.Name()) //nolint:errcheck // it is gone where all went well
	_, err = temporary.Write(text)
	if err := errors.Join(err, temporary.Close()); err != nil {
		return fmt.Errorf("-state: %w", err)
	}
	return os.Rename(temporary.Name(), file)
}
