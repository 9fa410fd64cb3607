// Command migrate applies migrations to a Warble database, and creates the logins and communities that a deployment needs.
//
//	migrate [-wait 30s] [up]                 apply missing migrations, and create the logins whose passwords are in the environment
//	migrate [-wait 30s] logins               create all logins, or set their passwords, from the environment
//	migrate [-wait 30s] communities add SLUG NAME
//	migrate [-wait 30s] outbox replay        put dead letters back into the outbox, to be published again
//	migrate [-wait 30s] deletions replay ID...
//	                                         delete accounts again whose deletion a restore has undone
//	migrate [-wait 30s] version              print the newest migration that was applied to the database
//
// It connects as the database's owner to DATABASE_DIRECT_URL or, if that is not set because there is no pooler, to DATABASE_URL.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"warble/shared/env"
	"warble/shared/store"
	"warble/shared/store/migrations"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, os.Args[1:], env.FromOS(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "migrate:", err)
		os.Exit(1)
	}
}

// run runs one command line. args do not have the program's name.
func run(ctx context.Context, args []string, e *env.Reader, out io.Writer) error {
	flags := flag.NewFlagSet("migrate", flag.ExitOnError)
	wait := flags.Duration("wait", 30*time.Second, "how long to wait until the database answers")
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), "usage: migrate [-wait 30s] [up | logins | communities add SLUG NAME | outbox replay | deletions replay ID... | version]")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	act, err := verb(flags.Args(), e, out)
	if err != nil {
		return err
	}
	url := e.String("DATABASE_DIRECT_URL", "")
	if url == "" {
		url = e.Required("DATABASE_URL", "the PostgreSQL URL of the database's owner; if functions use a pooler, set DATABASE_DIRECT_URL instead")
	}
	if err := e.Err(); err != nil {
		return err
	}
	conn, err := store.Connect(ctx, url, *wait)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // nothing is pending on it
	return act(ctx, conn)
}

// verb returns the function of the command line's verb, and reads the verb's environment. e reports mistakes in the environment.
func verb(args []string, e *env.Reader, out io.Writer) (func(context.Context, *store.Conn) error, error) {
	switch {
	case len(args) == 0, len(args) == 1 && args[0] == "up":
		logins := slices.DeleteFunc(logins(e.String), func(l store.DatabaseLogin) bool { return l.Password == "" })
		return func(ctx context.Context, conn *store.Conn) error { return up(ctx, conn, logins, out) }, nil
	case len(args) == 1 && args[0] == "logins":
		logins := logins(func(variable, fallback string) string {
			if strings.HasSuffix(variable, second) {
				return e.String(variable, fallback)
			}
			return e.Required(variable, "the password of the login")
		})
		logins = slices.DeleteFunc(logins, func(l store.DatabaseLogin) bool { return l.Password == "" })
		return func(ctx context.Context, conn *store.Conn) error { return makeLogins(ctx, conn, logins, out) }, nil
	case len(args) == 4 && args[0] == "communities" && args[1] == "add":
		return func(ctx context.Context, conn *store.Conn) error {
			return addCommunity(ctx, conn, args[2], args[3], out)
		}, nil
	case len(args) == 2 && args[0] == "outbox" && args[1] == "replay":
		return func(ctx context.Context, conn *store.Conn) error { return replay(ctx, conn, out) }, nil
	case len(args) > 2 && args[0] == "deletions" && args[1] == "replay":
		var ids []int64
		for _, text := range args[2:] {
			id, err := strconv.ParseInt(text, 10, 64)
			if err != nil || id <= 0 {
				return nil, fmt.Errorf("%q: expected the id of an account, from the event dev.warble.user.deleted.v1", text)
			}
			ids = append(ids, id)
		}
		return func(ctx context.Context, conn *store.Conn) error { return deleteAgain(ctx, conn, ids, out) }, nil
	case len(args) == 1 && args[0] == "version":
		return func(ctx context.Context, conn *store.Conn) error { return version(ctx, conn, out) }, nil
	}
	return nil, fmt.Errorf("%q: expected up, logins, communities add SLUG NAME, outbox replay, deletions replay ID..., or version", args)
}

// up applies the migrations. The result is the last line that it prints, because a deployment shows the last line of its Job.
func up(ctx context.Context, conn *store.Conn, logins []store.DatabaseLogin, out io.Writer) error {
	before, after, err := migrations.Apply(ctx, conn)
	if err != nil {
		return err
	}
	if err := makeLogins(ctx, conn, logins, out); err != nil {
		return err
	}
	if before == after {
		fmt.Fprintf(out, "already at migration %d\n", after)
	} else {
		fmt.Fprintf(out, "migrated from %d to %d\n", before, after)
	}
	return nil
}

// second is the suffix of a group's second login, and of the variable with its password.
const second = "_2"

// logins returns two logins for each group of functions, so that one stays in use while the other gets a new password. read returns a
// variable of the environment, or fallback if it is not set.
func logins(read func(variable, fallback string) string) (all []store.DatabaseLogin) {
	for _, role := range []string{"auth", "api", "mail", "ops"} {
		for _, suffix := range []string{"", second} {
			password := read("DATABASE_PASSWORD_"+strings.ToUpper(role)+suffix, "")
			all = append(all, store.DatabaseLogin{Name: "warble_" + role + "_login" + suffix, Group: "warble_" + role, Password: password})
		}
	}
	return all
}

func makeLogins(ctx context.Context, conn *store.Conn, logins []store.DatabaseLogin, out io.Writer) error {
	for _, login := range logins {
		if worksAlready(ctx, conn, login) {
			login.Password = ""
		}
		if err := store.CreateLogin(ctx, conn, login); err != nil {
			return err
		}
		fmt.Fprintf(out, "login %s is in the group %s\n", login.Name, login.Group)
	}
	return nil
}

// worksAlready reports whether the login's password is set already. Setting it again would change its hash, and poolers have copies of the
// hash.
func worksAlready(ctx context.Context, conn *store.Conn, login store.DatabaseLogin) bool {
	u, err := url.Parse(conn.Config().ConnString())
	if err != nil {
		return false
	}
	u.User = url.UserPassword(login.Name, login.Password)
	own, err := store.Connect(ctx, u.String(), 0)
	return err == nil && own.Close(ctx) == nil
}

func addCommunity(ctx context.Context, conn *store.Conn, slug, name string, out io.Writer) error {
	if err := store.AddCommunity(ctx, conn, slug, name); err != nil {
		return fmt.Errorf("community %s: %w", slug, err)
	}
	fmt.Fprintf(out, "community %s is in the database\n", slug)
	return nil
}

func replay(ctx context.Context, conn *store.Conn, out io.Writer) error {
	replayed, err := store.ReplayDeadLetters(ctx, conn)
	if err != nil {
		return fmt.Errorf("put %d dead letters back into the outbox, and then: %w", replayed, err)
	}
	fmt.Fprintf(out, "%d dead letters are back in the outbox\n", replayed)
	return nil
}

func version(ctx context.Context, conn *store.Conn, out io.Writer) error {
	at, err := store.Version(ctx, conn)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "the database is at migration %d; this command knows the migrations up to %d\n", at, store.SchemaVersion)
	return nil
}

func deleteAgain(ctx context.Context, conn *store.Conn, ids []int64, out io.Writer) error {
	deleted, err := store.DeleteAgain(ctx, conn, ids)
	if err == nil {
		fmt.Fprintf(out, "deleted %d of %d accounts again\n", deleted, len(ids))
	}
	return err
}
