package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"warble/shared/manifest"
	"warble/shared/token"
)

// state is the folder that a local run keeps between runs: postgres/, bin/, and one folder for each secret and config
// map that the manifests mount.
type state string

func (s state) path(parts ...string) string {
	return filepath.Join(append([]string{string(s)}, parts...)...)
}

// openState makes what is missing in a folder that lockState has made this run's: keys are made on the first run and kept, so that tokens outlive a restart.
func openState(folder string, fresh bool) (state, error) {
	folder, err := filepath.Abs(folder)
	if err != nil {
		return "", err
	}
	s := state(folder)
	if fresh {
		if err := errors.Join(os.RemoveAll(s.path("postgres")), os.RemoveAll(s.path(keptFile))); err != nil {
			return "", err
		}
	}
	for _, name := range []string{"bin", "warble-token-private", "warble-token-public", "warble-edge", "warble-routes", controlFolder} {
		if err := os.MkdirAll(s.path(name), 0o700); err != nil {
			return "", err
		}
	}
	if err := token.NewKeyPair(s.path("warble-token-private", "private.pem"), s.path("warble-token-public", "jwks.json")); err != nil {
		return "", err
	}
	return s, errors.Join(s.secret("warble-edge", "key"), s.secret(controlFolder, "token"))
}

// secret makes a random key in a file, unless it is there.
func (s state) secret(name, key string) error {
	file, err := os.OpenFile(s.path(name, key), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = file.WriteString(rand.Text() + rand.Text() + "\n")
	return errors.Join(err, file.Close())
}

// environment is what a manifest's container gets: values as they are, references from secrets, and paths below a mount
// moved to the folder that stands for the mounted secret or config map.
func (s state) environment(service *manifest.Service, secrets map[manifest.KeyRef]string) ([]string, error) {
	folders := make(map[string]string) // volume -> folder
	for _, volume := range service.Spec.Template.Spec.Volumes {
		if volume.Secret != nil {
			folders[volume.Name] = s.path(volume.Secret.SecretName)
		} else {
			folders[volume.Name] = s.path(volume.ConfigMap.Name)
		}
	}
	var environment []string
	for _, variable := range service.Container().Env {
		value := variable.Value
		if from := variable.ValueFrom; from != nil {
			if from.SecretKeyRef == nil {
				return nil, fmt.Errorf("%s: env.%s: a local run has no config maps to take values from", service.Name(), variable.Name)
			}
			var known bool
			if value, known = secrets[from.SecretKeyRef.KeyRef]; !known && from.SecretKeyRef.Optional {
				continue
			} else if !known {
				return nil, fmt.Errorf("%s: env.%s: a local run has no secret %s with the key %s", service.Name(), variable.Name, from.SecretKeyRef.Name, from.SecretKeyRef.Key)
			}
		}
		for _, mount := range service.Container().VolumeMounts {
			if rest, below := strings.CutPrefix(value, mount.MountPath+"/"); below {
				value = filepath.Join(folders[mount.Name], rest)
			}
		}
		environment = append(environment, variable.Name+"="+value)
	}
	return environment, nil
}

// keep writes the secrets that the environment is made of, a folder for each, as those that are mounted have one.
func (s state) keep(secrets map[manifest.KeyRef]string) error {
	for ref, value := range secrets {
		if err := errors.Join(os.MkdirAll(s.path(ref.Name), 0o700), os.WriteFile(s.path(ref.Name, ref.Key), []byte(value+"\n"), 0o600)); err != nil {
			return err
		}
	}
	return nil
}

// current is what the secrets of a service's environment are now: whoever changes one, and has every function replaced, moves them
// to it, as in a cluster. Those that are not kept are left out.
func (s state) current(service *manifest.Service) (environment []string) {
	for _, variable := range service.Container().Env {
		if from := variable.ValueFrom; from != nil && from.SecretKeyRef != nil {
			if value, err := os.ReadFile(s.path(from.SecretKeyRef.Name, from.SecretKeyRef.Key)); err == nil {
				environment = append(environment, variable.Name+"="+strings.TrimSpace(string(value)))
			}
		}
	}
	return environment
}

func shortHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:4])
}
