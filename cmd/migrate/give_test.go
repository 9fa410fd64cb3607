package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// give changes the owner of everything in folder to the owner of file.
func give(t *testing.T, folder string, file fs.FileInfo) {
	t.Helper()
	owner := file.Sys().(*syscall.Stat_t)
	if err := filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chown(path, int(owner.Uid), int(owner.Gid))
	}); err != nil {
		t.Fatal(err)
	}
}
