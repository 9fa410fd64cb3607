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

// state is the folder that stays between runs. It has postgres/, bin/, and a folder for each secret and config map that the manifests
// mount.
type state string

func (s state) path(parts ...string) string {
	return filepath.Join(append([]string{string(s)}, parts...)...)
}

// openState creates what is missing in a state folder, which lockState has locked. Keys are made only in the first run, so that tokens stay
// valid after a restart. fresh deletes the database and the experiments first.
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

// secret writes a random key to a file, unless the file exists.
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

// environment returns the variables of a manifest's container. References are replaced by values of secrets. Paths below a mount are
// replaced by paths in the state folder's copy of the mounted secret or config map.
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
				return nil, fmt.Errorf("%s: env.%s: a local run has no config maps for values of variables", service.Name(), variable.Name)
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

// writeSecrets writes the secrets of the environment, a folder for each, like those that are mounted.
func (s state) writeSecrets(secrets map[manifest.KeyRef]string) error {
	for ref, value := range secrets {
		if err := errors.Join(os.MkdirAll(s.path(ref.Name), 0o700), os.WriteFile(s.path(ref.Name, ref.Key), []byte(value+"\n"), 0o600)); err != nil {
			return err
		}
	}
	return nil
}

// currentSecrets returns the variables of a service that come from secrets, with the present values in the state folder. So a changed
// secret takes effect when the functions are replaced, as in a cluster. A secret without a file is left out.
func (s state) currentSecrets(service *manifest.Service) (environment []string) {
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
