package clustertest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// readFile returns the content of a file in the folder, and whether the file exists.
func (c *Cluster) readFile(name string) (string, bool) {
	text, err := os.ReadFile(filepath.Join(c.folder, name))
	return strings.TrimSpace(string(text)), err == nil
}

func (c *Cluster) record(call string) error {
	calls, err := os.OpenFile(filepath.Join(c.folder, "calls"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(calls, call)
	return errors.Join(err, calls.Close())
}

func (c *Cluster) save(file string, o object) error {
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(c.folder, file), text, 0o600)
}

func (c *Cluster) load(k kind, name string) (object, error) {
	text, err := os.ReadFile(filepath.Join(c.folder, k.file(name)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, k.notFound(name)
	}
	var o object
	return o, errors.Join(err, json.Unmarshal(text, &o))
}

// list ignores selectors. There is one pod, which every selector matches.
func (c *Cluster) list(k kind) (any, error) {
	if k.plural == "pods" {
		pod := object{"metadata": object{"name": "pod"}, "spec": object{"containers": []object{{"name": "user-container"}}}}
		return object{"items": []object{pod}}, nil
	}
	files, err := filepath.Glob(filepath.Join(c.folder, k.file("*")))
	items := []object{}
	for _, file := range files {
		o, failed := c.load(k, strings.TrimPrefix(filepath.Base(file), k.file("")))
		err = errors.Join(err, failed)
		items = append(items, o)
	}
	return object{"items": items}, err
}

func (c *Cluster) remove(k kind, name string) (any, error) {
	if err := os.Remove(filepath.Join(c.folder, k.file(name))); err != nil {
		return nil, k.notFound(name)
	}
	return object{"apiVersion": "v1", "kind": "Status", "status": "Success"}, nil
}

// plain returns a copy of a value, in the types that encoding/json decodes into.
func plain(value any) (o object, err error) {
	text, err := json.Marshal(value)
	if err == nil {
		err = json.Unmarshal(text, &o)
	}
	return o, err
}

// child returns a member that is an object. It adds an empty object if there is no such member.
func child(o object, name string) object {
	if _, ok := o[name].(object); !ok {
		o[name] = make(object)
	}
	return o[name].(object)
}

// field is the path of a member, with slashes. A whole list is one field, as in a resource whose schema does not describe how lists
// merge.
type field string

func (f field) String() string { return strings.ReplaceAll("/"+string(f), "/", ".") }

// set sets a field of an object. If value is nil, it removes the field.
func (f field) set(o object, value any) {
	names := strings.Split(string(f), "/")
	for _, name := range names[:len(names)-1] {
		o = child(o, unescaped(name))
	}
	if last := unescaped(names[len(names)-1]); value == nil {
		delete(o, last)
	} else {
		o[last] = value
	}
}

func unescaped(name string) string { return strings.ReplaceAll(name, "~1", "/") }

// fields returns the fields of an object that can have managers, with their values.
func fields(o object) map[field]any {
	all := make(map[field]any)
	var walk func(prefix string, o object)
	walk = func(prefix string, o object) {
		for name, value := range o {
			at := prefix + strings.ReplaceAll(name, "/", "~1")
			if members, ok := value.(object); ok {
				walk(at+"/", members)
			} else if !slices.Contains([]string{"apiVersion", "kind", "metadata/name", "metadata/namespace", "metadata/resourceVersion"}, at) {
				all[field(at)] = value
			}
		}
	}
	walk("", o)
	return all
}

// manager is a field manager: it has set a field and owns it. applies says whether it did so by an apply. If a manager's next apply
// leaves out a field that it set by an update, the field stays.
type manager struct {
	name    string
	applies bool
}

// managersOf returns the managers of an object's fields. There are none if the object does not exist.
func (c *Cluster) managersOf(file string, there bool) map[field][]manager {
	if c.managers[file] == nil || !there {
		c.managers[file] = make(map[field][]manager)
	}
	return c.managers[file]
}

// apply carries out a server-side apply.
func (c *Cluster) apply(k kind, name string, applied object, by manager, force, dry bool) (any, error) {
	present, err := c.load(k, name)
	there := err == nil
	if refused, ok := errors.AsType[refusal](err); !there && (!ok || refused.reason != "NotFound") {
		return nil, err
	}
	managers := maps.Clone(c.managersOf(k.file(name), there))
	next, err := plain(present) // a copy
	if err != nil {
		return nil, err
	}
	if !there {
		next = object{"apiVersion": k.version, "kind": k.kind, "metadata": object{"name": name}}
	}
	had, wants := fields(next), fields(applied)
	var conflicts []string
	for _, f := range slices.Sorted(maps.Keys(wants)) {
		if value, has := had[f]; has && !reflect.DeepEqual(value, wants[f]) {
			for _, other := range managers[f] {
				if other != by {
					conflicts = append(conflicts, fmt.Sprintf("conflict with %q using %s: %s", other.name, k.version, f))
				}
			}
			managers[f] = nil
		}
		if !slices.Contains(managers[f], by) {
			managers[f] = append(slices.Clone(managers[f]), by)
		}
		f.set(next, wants[f])
	}
	if len(conflicts) > 0 && !force {
		return nil, refusal{http.StatusConflict, "Conflict", fmt.Sprintf("Apply failed with %d conflicts: %s", len(conflicts), strings.Join(conflicts, "\n"))}
	}
	for f, all := range managers {
		if _, wanted := wants[f]; !wanted && slices.Contains(all, by) {
			managers[f] = slices.DeleteFunc(slices.Clone(all), func(m manager) bool { return m == by })
			if len(managers[f]) == 0 {
				f.set(next, nil) // no manager sets this field any more
			}
		}
	}
	if err := admit(k, present, next); err != nil || dry {
		return next, err
	}
	c.managers[k.file(name)] = managers
	if err := c.react(k, name, next); err != nil {
		return nil, err
	}
	return next, c.write(k, name, present, next)
}

// merge carries out a merge patch.
func (c *Cluster) merge(k kind, name string, patch object, by manager) (any, error) {
	present, err := c.load(k, name)
	if err != nil {
		return nil, err
	}
	next, err := plain(present)
	if err != nil {
		return nil, err
	}
	if wanted, ok := child(patch, "metadata")["resourceVersion"]; ok && wanted != child(present, "metadata")["resourceVersion"] {
		return nil, refusal{http.StatusConflict, "Conflict", fmt.Sprintf("Operation cannot be fulfilled on %s %q: the object has been modified", k.resource(), name)}
	}
	managers := c.managersOf(k.file(name), true)
	for f, value := range fields(patch) {
		f.set(next, value)
		managers[f] = []manager{by}
	}
	if err := c.follow(k, name, next); err != nil {
		return nil, err
	}
	return next, c.write(k, name, present, next)
}

// write stores an object as the newest version. before is nil for a new object.
func (c *Cluster) write(k kind, name string, before, after object) error {
	c.version++
	metadata := child(after, "metadata")
	metadata["resourceVersion"] = strconv.Itoa(c.version)
	if before == nil {
		metadata["uid"] = fmt.Sprintf("uid-%d", c.version)
		metadata["creationTimestamp"] = time.Now().UTC().Format(time.RFC3339)
	}
	return c.save(k.file(name), after)
}
