package main

import (
	"time"

	"github.com/spf13/cobra"

	"warble/shared/env"
	"warble/shared/knative"
	"warble/shared/readout"
	"warble/shared/rollout"
)

func (s *settings) drive() *cobra.Command {
	var every time.Duration
	c := &cobra.Command{
		Use: "run", Short: "Move experiments from here, as steer does, until you stop it", Args: noArgs,
		Example: "  kn experiment run",
		Long: `Move all experiments of the namespace from this terminal, as steer does, until you stop it. This needs steer's rights and
DATABASE_URL. Steer may run at the same time: if both write at the same time, the later one reads the experiment again.`,
		RunE: func(c *cobra.Command, _ []string) error {
			settings := env.FromOS()
			connections := settings.Int("DATABASE_CONNECTIONS", 0, 0, 1_000_000) // with the same bounds as in steer
			if err := settings.Err(); err != nil {
				return exit(misused, "%w", err)
			}
			config, namespace, err := s.clusterConfig("")
			if err != nil {
				return err
			}
			ask, err := knative.AskFromOutside(config)
			if err != nil {
				return err
			}
			cluster, err := knative.New(config, namespace, ask)
			if err != nil {
				return err
			}
			db, err := s.database()
			if err != nil {
				return err
			}
			defer db.Close()
			actor := "kn experiment run"
			if s.by != "" {
				actor = s.by
			}
			d := &rollout.Driver{
				Cluster: cluster, Store: db, Readout: readout.Driver{DB: db}, Now: time.Now, Actor: actor, Connections: connections,
				Say: func(line string) { c.Println(line) },
			}
			for {
				if err := d.Run(c.Context(), nil); err != nil && c.Context().Err() == nil {
					c.PrintErrln(err)
				}
				select {
				case <-c.Context().Done():
					return nil
				case <-time.After(every):
				}
			}
		},
	}
	c.Flags().DurationVar(&every, "every", 5*time.Second, "time between two checks of the experiments")
	return c
}
